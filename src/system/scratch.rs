//! The temporary folder of a process: removed at its end, or by a later process when it was killed.
//!
//! The folder is locked (flock(2)) while the process lives, and the kernel releases the lock
//! however the process ends: a folder that can be locked belongs to nobody. Rejected: the process
//! id in the name alone, since the kernel gives ids away again.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Earlier versions, whose folders carry no lock, named theirs differently.
const PREFIX: &str = "msgbench-run-";

/// How often another name is tried.
const TRIES: u32 = 100;

#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// How many folders of killed processes were removed when this one was made.
    pub swept: usize,
    /// Holds the lock.
    _held: File,
}

impl Scratch {
    /// Makes a folder in the system's folder for temporary files, after those that killed processes
    /// left there are removed.
    ///
    /// # Errors
    /// When no folder can be made there; the error names the place.
    pub fn new() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        let swept = sweep(&parent);
        let named = |e: io::Error| {
            let words =
                format!("cannot make a temporary folder in {}: {e}; name another with TMPDIR", parent.display());
            io::Error::new(e.kind(), words)
        };
        Self::within(&parent, swept).map_err(named)
    }

    fn within(parent: &Path, swept: usize) -> io::Result<Self> {
        for _ in 0..TRIES {
            let path = parent.join(format!("{PREFIX}{}-{}", std::process::id(), crate::units::now()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Another process may sweep before the lock is held; then the folder is gone, or about
            // to go.
            let Ok(held) = open(&path) else { continue };
            match held.try_lock() {
                Err(TryLockError::WouldBlock) => continue,
                // A file system without locks: nobody else can lock the folder either, so nobody
                // removes it.
                Err(TryLockError::Error(_)) | Ok(()) => {}
            }
            if same(&held, &path) {
                return Ok(Self { path, swept, _held: held });
            }
        }
        Err(io::Error::other(format!("{TRIES} names were taken")))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by a later run.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Opens a folder, and nothing that a link leads to.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// Whether the path still leads to the open folder.
fn same(held: &File, path: &Path) -> bool {
    let of = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    held.metadata().ok().map(of) == std::fs::symlink_metadata(path).ok().map(of)
}

/// Removes the folders of ours in `parent` that no living process holds; returns how many. What
/// belongs to another user stays.
fn sweep(parent: &Path) -> usize {
    let Ok(all) = std::fs::read_dir(parent) else { return 0 };
    let ours = all.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX)).map(|e| e.path());
    // SAFETY: geteuid has no preconditions.
    let user = unsafe { libc::geteuid() };
    let mut removed = 0;
    for path in ours {
        let Ok(folder) = open(&path) else { continue };
        let own = folder.metadata().is_ok_and(|m| m.uid() == user);
        // The lock is held until the folder is gone.
        if own && folder.try_lock().is_ok() && same(&folder, &path) && std::fs::remove_dir_all(&path).is_ok() {
            removed += 1;
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_swept_and_what_is_held_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let live = Scratch::within(parent.path(), 0).unwrap();
        std::fs::write(live.path().join("file"), "live").unwrap();
        let dead = parent.path().join(format!("{PREFIX}1-1"));
        std::fs::create_dir_all(dead.join("deep/er")).unwrap();
        std::fs::write(dead.join("deep/file"), "dead").unwrap();
        let (other, target) = (parent.path().join("msgbench-1-1"), tempfile::tempdir().unwrap());
        std::fs::create_dir(&other).unwrap();
        let link = parent.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(target.path(), &link).unwrap();
        assert_eq!(sweep(parent.path()), 1);
        assert!(live.path().join("file").exists() && !dead.exists() && other.exists());
        assert!(link.is_symlink() && target.path().exists());
        let path = live.path().to_owned();
        drop(live);
        assert!(!path.exists());
    }

    /// Makers and sweepers at once: no maker ever loses what it holds.
    #[test]
    fn a_folder_that_is_just_made_is_not_taken_away() {
        let parent = tempfile::tempdir().unwrap();
        let end = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !end.load(std::sync::atomic::Ordering::Relaxed) {
                        sweep(parent.path());
                    }
                });
            }
            for _ in 0..300 {
                let held = Scratch::within(parent.path(), 0).unwrap();
                std::fs::write(held.path().join("file"), "held").unwrap();
                assert!(held.path().join("file").exists());
            }
            end.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
