//! The log as its owner uses it, on a simulated disk.

mod basics;
mod cuts;
mod damage;
mod faults;
mod kit;
mod owner;
