//! The load: when each message is due ([`schedule`]), how to wait for that instant ([`pacer`]),
//! what is in it ([`message`], [`checksum`]), which key it has ([`keys`]).

pub mod checksum;
pub mod keys;
pub mod message;
pub mod pacer;
pub mod schedule;
