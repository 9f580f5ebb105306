//! The folder `src/broker/nats`, as far as the models need it.

#![allow(dead_code, unused_imports, reason = "a part of what the project uses")]

#[path = "../../../../src/broker/nats/counters.rs"]
pub mod counters;
#[path = "../../../../src/broker/nats/frames.rs"]
mod frames;
#[path = "../../../../src/broker/nats/index.rs"]
pub mod index;
#[path = "../../../../src/broker/nats/outlet.rs"]
pub mod outlet;
#[path = "../../../../src/broker/nats/pool.rs"]
mod pool;
pub mod sync;
#[path = "../../../../src/broker/nats/traffic.rs"]
mod traffic;

mod config {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum SlowConsumer {
        Disconnect,
        DropNewest,
        Block,
    }
}

mod users {
    #[derive(Debug)]
    pub struct Permissions;

    impl Permissions {
        pub fn withholds(&self, _: &[u8]) -> bool {
            false
        }
    }
}

pub mod model;
