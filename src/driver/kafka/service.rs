//! Requests to a service of others. Each carries a header that names the request, and that its
//! answer brings back.

use std::ffi::{CStr, CString};

use super::reader::ReceivedMessage;
use crate::driver::DriverError;

/// A header of a message: name and value.
pub(super) type RecordHeader<'a> = (&'a CStr, &'a [u8]);

/// What the answers of others' requests, or those without the header, are counted as: no request
/// has this token.
const UNKNOWN: u64 = u64::MAX;

/// The header by which the answers to one requester's requests are known.
#[derive(Debug)]
pub(super) struct Correlation {
    name: CString,
    /// What every value begins with: trial, workload and requester. The token follows.
    prefix: String,
    value: String,
    /// Whether it tells of answers without the header; one requester of a workload does.
    tells: bool,
}

impl Correlation {
    pub(super) fn new(header: &str, run: u32, workload: usize, requester: u32) -> Result<Self, DriverError> {
        let name = CString::new(header)
            .map_err(|e| DriverError::Refused { words: format!("target.correlation-header: {e}") })?;
        let prefix = format!("mb-{run:08x}-{workload}-{requester}-");
        Ok(Self { name, prefix, value: String::new(), tells: requester == 0 })
    }

    /// The header of the request with this token.
    pub(super) fn header(&mut self, token: u64) -> RecordHeader<'_> {
        use std::fmt::Write as _;
        self.value.clear();
        self.value.push_str(&self.prefix);
        // Writing to a String cannot fail.
        let _ = write!(self.value, "{token}");
        (&self.name, self.value.as_bytes())
    }

    /// The token of the request that a message answers; `None` where it is another requester's
    /// affair.
    pub(super) fn token(&self, answer: &ReceivedMessage) -> Option<u64> {
        self.read(answer.header(&self.name))
    }

    fn read(&self, value: Option<&[u8]>) -> Option<u64> {
        match value {
            None => self.tells.then_some(UNKNOWN),
            Some(value) => std::str::from_utf8(value.strip_prefix(self.prefix.as_bytes())?).ok()?.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_the_header_of_its_request() {
        let mut first = Correlation::new("id", 7, 0, 0).unwrap();
        let second = Correlation::new("id", 7, 0, 1).unwrap();
        for token in [0, 1, 9_999_999_999, u64::MAX - 1] {
            let (name, value) = first.header(token);
            assert_eq!(name, c"id");
            let value = value.to_vec();
            assert_eq!((first.read(Some(&value)), second.read(Some(&value))), (Some(token), None));
            // A requester 10 is not a requester 1.
            let other = Correlation::new("id", 7, 0, 10).unwrap().header(token).1.to_vec();
            assert_eq!((first.read(Some(&other)), second.read(Some(&other))), (None, None));
        }
        for strange in [&b""[..], b"mb-00000007-0-0-", b"mb-00000007-0-0-x", b"mb-00000007-0-0-\xff", b"1"] {
            assert_eq!(first.read(Some(strange)), None, "{strange:?}");
        }
        assert_eq!((first.read(None), second.read(None)), (Some(UNKNOWN), None), "it is told once");
        assert!(Correlation::new("i\0d", 7, 0, 0).is_err());
    }
}
