//! The report of a run as something to click on, and to open.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `file://` and the absolute path, with what a URL may not hold as it is percent-encoded.
pub(super) fn link(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut out = String::from("file://");
    for byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(*byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// Programs that open a file as the user of a desktop would.
const OPENERS: [&str; 2] = ["xdg-open", "open"];

/// So long a program may take to refuse; one that runs longer has opened the page.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens a page.
///
/// # Errors
/// What to do by hand, where nothing here opens pages.
pub(super) fn open(path: &Path) -> Result<(), String> {
    for program in OPENERS {
        let spawned =
            Command::new(program).arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        // Where there is no such program, the next one may be there.
        let Ok(mut child) = spawned else { continue };
        let end = Instant::now() + PATIENCE;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(_)) | Err(_) => break,
                // It may be the browser itself, which stays.
                Ok(None) if Instant::now() >= end => return Ok(()),
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    Err(format!("--open: no program here opens it ({}): open {} by hand", OPENERS.join(", "), link(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_holds_nothing_that_ends_it() {
        assert_eq!(link(Path::new("/a b/ü%#?.html")), "file:///a%20b/%C3%BC%25%23%3F.html");
        assert!(link(Path::new("results/report.html")).starts_with("file:///"));
    }
}
