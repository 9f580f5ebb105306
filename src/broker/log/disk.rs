//! The few operations whose failure or slowness a log must survive, behind a trait so that a test
//! can make them fail.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::error::LogError;

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

    /// Makes the names in a folder survive one: that a file or folder in it was made, renamed or
    /// removed.
    ///
    /// # Errors
    /// The same.
    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
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

/// Writes a file so that it appears whole or not at all when the process is killed; and with a
/// `disk`, when the power goes, too. That it is there is another matter:
/// [`Disk::sync_names`] of its folder.
pub(super) fn write_whole(disk: Option<&dyn Disk>, path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let file = File::create(&name).map_err(LogError::io("make", path))?;
    file.write_all_at(bytes, 0).map_err(LogError::io("write", path))?;
    // Renamed before that, it could be there and empty.
    disk.map_or(Ok(()), |disk| disk.sync(&file)).map_err(LogError::io("sync", path))?;
    std::fs::rename(&name, path).map_err(LogError::io("rename to", path))
}

/// Whether it is what a file may be that was not synced before the power went: empty, or zeros
/// where it was not written out.
pub(super) fn is_unwritten(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.contains(&0)
}

/// Makes a folder and those it is in, as far as they are not there; with a `disk`, so that they
/// survive a loss of power.
pub(super) fn make_folder(disk: Option<&dyn Disk>, path: &Path) -> Result<(), LogError> {
    let named = |path: &Path| if path.as_os_str().is_empty() { Path::new(".").to_owned() } else { path.to_owned() };
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !named(folder).exists()).collect();
    std::fs::create_dir_all(path).map_err(LogError::io("make", path))?;
    let Some(disk) = disk else { return Ok(()) };
    for parent in missing.iter().rev().filter_map(|folder| folder.parent()).map(named) {
        disk.sync_names(&parent).map_err(LogError::io("sync", &parent))?;
    }
    Ok(())
}

/// Fills `file` with zeros up to `len` and makes that survive.
pub(super) fn fill(disk: &dyn Disk, file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let step = (len - at).min(zeros.len() as u64) as usize;
        file.write_all_at(&zeros[..step], at)?;
        at += step as u64;
    }
    disk.sync(file)
}
