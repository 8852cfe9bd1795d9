//! What a filter means.
