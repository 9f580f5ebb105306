//! The text of a scenario or gate file, read with bounds: a device has no end, and nobody may write
//! to a FIFO.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest text; the longest scenario that anybody wrote by hand has some kilobytes.
const LONGEST: u64 = 10 << 20;
/// Bound on the writer of a pipe.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a text file, or what comes through a pipe until its writers close it.
///
/// # Errors
/// The operating system's words; or that it is a folder, a device, a socket, a FIFO that nobody
/// writes to, longer than 10 MiB, or not UTF-8.
pub(super) fn text(path: &Path) -> io::Result<String> {
    let no = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, and not a text file"));
    // Asked before it is opened: opening a device may do something.
    let kind = std::fs::metadata(path)?.file_type();
    match () {
        () if kind.is_dir() => return Err(no("a folder")),
        () if kind.is_char_device() || kind.is_block_device() => return Err(no("a device")),
        () if kind.is_socket() => return Err(no("a socket")),
        () => {}
    }
    // Opening a FIFO would wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let bytes = if kind.is_fifo() { piped(file, PATIENCE)? } else { bounded(file)? };
    String::from_utf8(bytes).map_err(|e| {
        let words = format!("it is not UTF-8 text (byte {})", e.utf8_error().valid_up_to() + 1);
        io::Error::new(io::ErrorKind::InvalidData, words)
    })
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is longer than 10 MiB, and no scenario is")
}

fn bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more tells a file that is too long from one that just fits.
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST { Err(too_long()) } else { Ok(bytes) }
}

fn piped(mut file: File, patience: Duration) -> io::Result<Vec<u8>> {
    let nobody = || io::Error::new(io::ErrorKind::InvalidInput, "it is a FIFO, and nobody writes to it");
    let end = Instant::now() + patience;
    let (mut bytes, mut part) = (Vec::new(), [0; 8192]);
    while bytes.len() as u64 <= LONGEST {
        match file.read(&mut part) {
            // Without a writer there is an end at once.
            Ok(0) if bytes.is_empty() => return Err(nobody()),
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => wait(&file, end)?,
            Err(e) => return Err(e),
        }
    }
    Err(too_long())
}

/// Waits until something can be read.
fn wait(file: &File, end: Instant) -> io::Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one valid pollfd.
    match unsafe { libc::poll(&mut poll, 1, left.as_millis() as libc::c_int) } {
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "it is a FIFO, and its writer does not finish")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_does_not_end_is_not_waited_for() {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        // SAFETY: the descriptor is open, and F_SETFL takes an integer.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let error = piped(file, Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("does not finish"), "{error}");
        drop(writer);
    }
}
