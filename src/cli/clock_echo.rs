//! `msgbench clock-echo`: answers exchanges of clock readings, for tests and for calibration.

use std::io::{Read, Write};
use std::net::SocketAddr;

use super::{Exit, Failure};
use crate::clocks::LocalClock;
use crate::clocks::echo::EchoServer;
use crate::units::now;

/// Arguments of `clock-echo`.
#[derive(Debug, clap::Args)]
pub struct ClockEchoArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What a question must have
    #[arg(long, default_value_t = 0)]
    token: u64,
    /// Show a clock that is ahead by so many nanoseconds
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    shift: i64,
    /// Show a clock that is too fast by so many parts per million
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    drift: f64,
}

/// Prints where it listens, and the instant at which its clock was ahead by the shift alone; ends
/// with its input.
pub(super) fn run(args: &ClockEchoArgs) -> Result<Exit, Failure> {
    let origin = now();
    let clock = LocalClock::wrong_by(args.shift, args.drift * 1e-6, origin);
    let server = EchoServer::start(args.listen, args.token, clock).map_err(Failure::internal)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {origin}", server.address()).and_then(|()| out.flush()).map_err(Failure::unwritten)?;
    // Whoever has started it ends it.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(Exit::Passed)
}
