//! Faults that are changed while the broker runs: lines of text on a loopback port, off unless
//! asked for.
//!
//! | line | effect |
//! |---|---|
//! | `set NAME=ITEM:VALUE,... ...` | these faults on top of those in force, in the words of `--fault` |
//! | `clear` | no fault any more |
//! | `show` | nothing |
//!
//! The answer is `+OK` and the faults in force from then on, or `-ERR` and what is wrong; then
//! nothing has changed. Messages and deliveries go on being numbered; what is random begins again
//! from the seed, and times count from the change.
//!
//! **Bounds.** Loopback addresses only; [`MOST`] connections, the others wait; lines of [`LONGEST`]
//! bytes; [`PATIENCE`] of silence.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::FaultPath;
use crate::broker::shared::error::BrokerError;
use crate::faults::Faults;

/// Connections at once.
const MOST: usize = 4;
/// Bytes of a line.
const LONGEST: u64 = 4096;
/// A connection that says nothing for so long is closed.
const PATIENCE: Duration = Duration::from_secs(300);

/// Listens on a loopback address.
///
/// # Errors
/// When it is none, or is taken.
pub(in crate::broker::nats) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BrokerError> {
    if !address.ip().is_loopback() {
        let remedy = "whoever reaches it can break the broker: give a loopback address such as 127.0.0.1:0";
        return Err(BrokerError::Setting { setting: "the fault control", value: address.to_string(), remedy });
    }
    let failed = |source| BrokerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves connections that change the faults of `fault_path`, until it is dropped.
pub(in crate::broker::nats) async fn control(fault_path: Arc<FaultPath>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MOST));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let fault_path = Arc::clone(&fault_path);
                connections.spawn(async move {
                    // A peer that has gone needs no answer.
                    let _ = serve(&fault_path, socket).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(fault_path: &FaultPath, socket: TcpStream) -> std::io::Result<()> {
    let (reading, mut writing) = socket.into_split();
    let mut lines = BufReader::new(reading);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut lines).take(LONGEST);
        let Ok(read) = timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await else { return Ok(()) };
        if read? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            return writing.write_all(b"-ERR the line has no end within 4096 bytes\n").await;
        }
        let answer = match apply_command(fault_path, &String::from_utf8_lossy(&line)) {
            Ok(faults) => format!("+OK {faults}\n"),
            Err(words) => format!("-ERR {}\n", words.replace('\n', " ")),
        };
        writing.write_all(answer.as_bytes()).await?;
    }
}

fn apply_command(fault_path: &FaultPath, line: &str) -> Result<Faults, String> {
    let mut words = line.split_whitespace();
    let faults = match words.next() {
        Some("show") => return Ok(fault_path.faults()),
        Some("clear") => Faults::default(),
        Some("set") => {
            let flags: Vec<String> = words.map(str::to_owned).collect();
            fault_path.faults().with_flags(&flags).map_err(|e| e.to_string())?
        }
        other => return Err(format!("`{}` is no command: there are set, clear and show", other.unwrap_or_default())),
    };
    fault_path.change(&faults);
    Ok(faults)
}
