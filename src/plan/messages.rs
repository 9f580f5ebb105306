//! Real messages from disk: the lines of a file, or the files of a folder.

use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::plan::{Content, ENVELOPE_BYTES, Payload, PayloadSize};
use crate::units::Bytes;

/// More than this is not held in memory.
const MAX_TOTAL: u64 = 1 << 30;

/// Reads all messages in order: the non-empty lines of a file without their line ends, or the
/// non-empty, visible files of a folder by name.
///
/// # Errors
/// What the operating system says; `InvalidData` when the whole is larger than 1 GiB.
pub fn read_messages(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidData, "more than 1GiB of messages");
    let meta = fs::metadata(path)?;
    if !meta.is_dir() {
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a folder"));
        }
        if meta.len() > MAX_TOTAL {
            return Err(too_large());
        }
        let all = fs::read(path)?;
        let lines = all.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        return Ok(lines.filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect());
    }
    let mut files = Vec::new();
    let mut total = 0;
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let hidden = file.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        let meta = fs::metadata(&file)?;
        if meta.is_file() && !hidden && meta.len() > 0 {
            total += meta.len();
            files.push(file);
        }
    }
    if total > MAX_TOTAL {
        return Err(too_large());
    }
    files.sort();
    files.iter().map(fs::read).collect()
}

/// The payload that a file or folder makes. Sizes include the envelope. The hash is over each
/// message followed by a line feed, so for an ordinary file of lines it is what `sha256sum` prints.
///
/// # Errors
/// As [`read_messages`], and `InvalidData` when there is no message.
pub fn from_path(path: &Path) -> io::Result<Payload> {
    let messages = read_messages(path)?;
    let lengths = || messages.iter().map(|m| m.len() as u64 + u64::from(ENVELOPE_BYTES));
    let (Some(min), Some(max)) = (lengths().min(), lengths().max()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no message"));
    };
    let mut hash = Sha256::new();
    for message in &messages {
        hash.update(message);
        hash.update(b"\n");
    }
    Ok(Payload {
        size: if min == max {
            PayloadSize::Fixed(Bytes(min))
        } else {
            PayloadSize::Uniform { min: Bytes(min), max: Bytes(max) }
        },
        content: Content::File {
            path: path.display().to_string(),
            sha256: crate::units::hex(&hash.finalize()),
            messages: messages.len() as u64,
        },
    })
}
