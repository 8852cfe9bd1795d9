//! Things that several screens paint.
