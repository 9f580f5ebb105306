//! The few operations whose failure or slowness a log must survive, behind a trait so that a test
//! can make them fail.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

/// Writes and syncs files.
pub trait Disk: Send + Sync + 'static {
    /// Writes all of `parts`, one after the other, at `position`.
    ///
    /// # Errors
    /// As the operating system says; part of it may have been written.
    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;

    /// Makes what has been written survive a loss of power.
    ///
    /// # Errors
    /// As the operating system says; what has been written since the last success is then in doubt.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The operating system's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

/// What one call of `pwritev` may take (IOV_MAX on Linux).
const MAX_PARTS: usize = 1024;

impl Disk for SystemDisk {
    fn write(&self, file: &File, mut parts: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let count = parts.len().min(MAX_PARTS) as libc::c_int;
            let at = libc::off_t::try_from(position).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
            // SAFETY: IoSlice has the layout of iovec, `parts` holds at least `count` of them, and
            // the file is open.
            let written = unsafe { libc::pwritev(file.as_raw_fd(), parts.as_ptr().cast(), count, at) };
            match written {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n if n > 0 => {
                    position += n as u64;
                    IoSlice::advance_slices(&mut parts, n as usize);
                }
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Fills `file` with zeros up to `len` and makes that survive.
pub(super) fn fill(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let step = (len - at).min(zeros.len() as u64) as usize;
        file.write_all_at(&zeros[..step], at)?;
        at += step as u64;
    }
    file.sync_all()
}
