//! What the servers share that no broker can be ahead of: they show what a client reaches at most.

pub mod fields;
pub mod produce;
pub mod relay;
