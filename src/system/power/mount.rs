//! A store is put at its place, cut off, and put there again, all within the process that serves
//! it. Nobody else may be in that process: who unmaps a file of it waits for the thread that
//! serves, and that may wait for the memory map of the process (seen).

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use fuser::{Config, Session, SessionACL};

use super::files::StoreFiles;
use super::tree::{StoreTree, lock};
use super::{NameLoss, PowerLoss};

/// Threads that serve: a sync waits for the disk of the host, and others are served meanwhile.
const THREADS: usize = 8;

/// A folder that is served at a place, and can lose its power. It goes when it is dropped.
pub(super) struct StoreMount {
    dir: PathBuf,
    at: PathBuf,
    loss: NameLoss,
    served: Option<ServedStore>,
}

struct ServedStore {
    tree: Arc<Mutex<StoreTree>>,
    session: JoinHandle<io::Result<()>>,
}

impl StoreMount {
    /// Serves what is in the folder `tree` within `dir` at the folder `at`; both are made where
    /// they are not there. What is there is taken for synced.
    ///
    /// # Errors
    /// When /dev/fuse cannot be used, or nothing may be mounted here.
    pub(super) fn open(dir: &Path, at: &Path, loss: NameLoss) -> io::Result<Self> {
        std::fs::create_dir_all(at)?;
        let mut store = Self { dir: dir.to_owned(), at: at.to_owned(), loss, served: None };
        store.serve()?;
        Ok(store)
    }

    fn serve(&mut self) -> io::Result<()> {
        let tree = StoreTree::new(&self.dir.join("tree"), &self.dir.join("removed"), self.loss)?;
        let tree = Arc::new(Mutex::new(tree));
        let device: OwnedFd = OpenOptions::new().read(true).write(true).open("/dev/fuse")?.into();
        mount(&device, &self.at)?;
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        config.acl = SessionACL::All;
        let began = Session::from_fd(StoreFiles::new(Arc::clone(&tree)), device, SessionACL::All, config)
            .and_then(|session| std::thread::Builder::new().name("power".into()).spawn(move || session.run()));
        match began {
            Ok(session) => {
                self.served = Some(ServedStore { tree, session });
                Ok(())
            }
            Err(error) => {
                let _ = unmount(&self.at);
                Err(error)
            }
        }
    }

    /// The power goes and comes back: what was not synced is gone. Who has files open there gets
    /// errors from then on; end them before, as a loss of power does.
    ///
    /// # Errors
    /// When the folder of the host cannot be changed, or not be served again.
    pub(super) fn cut(&mut self) -> io::Result<PowerLoss> {
        let tree = self.end()?.ok_or_else(|| io::Error::other("it is not served"))?;
        let (bytes, names) = lock(&tree).take_back()?;
        self.serve()?;
        Ok(PowerLoss { bytes, names })
    }

    /// Ends serving, at once, and with what the kernel has not yet written.
    fn end(&mut self) -> io::Result<Option<Arc<Mutex<StoreTree>>>> {
        let Some(ServedStore { tree, session }) = self.served.take() else { return Ok(None) };
        unmount(&self.at)?;
        match session.join() {
            Ok(Ok(())) => Ok(Some(tree)),
            // What a thread was given in that moment; the kernel has answered it by itself.
            Ok(Err(error)) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(Some(tree)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("a thread that served has panicked")),
        }
    }
}

impl Drop for StoreMount {
    fn drop(&mut self) {
        // Where it cannot be ended it ends with the process.
        let _ = self.end();
    }
}

fn mount(device: &OwnedFd, at: &Path) -> io::Result<()> {
    // SAFETY: geteuid and getegid have no preconditions.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let options = format!(
        "fd={},rootmode=40000,user_id={user},group_id={group},allow_other,default_permissions",
        device.as_raw_fd()
    );
    let (options, at) = (CString::new(options)?, CString::new(at.as_os_str().as_encoded_bytes())?);
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all strings end with a zero byte and live until the call returns.
    let done = unsafe {
        libc::mount(c"msgbench-power".as_ptr(), at.as_ptr(), c"fuse.msgbench".as_ptr(), flags, options.as_ptr().cast())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes it away by force: what the kernel has not yet written is lost, who waits for an answer
/// gets an error.
fn unmount(at: &Path) -> io::Result<()> {
    let at = CString::new(at.as_os_str().as_encoded_bytes())?;
    // SAFETY: the string ends with a zero byte and lives until the call returns.
    match unsafe { libc::umount2(at.as_ptr(), libc::MNT_FORCE | libc::MNT_DETACH) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
