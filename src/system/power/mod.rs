//! A folder that loses what was not synced when its power goes, as a disk does.
//!
//! **Why.** A process that is killed loses nothing that it has written: the kernel has it. What a
//! system has promised to keep is known only when the kernel's memory goes, too.
//!
//! **How.** The folder is a file system of its own (fuse(4)), in the spirit of LazyFS. What is
//! written goes to a folder of the host at once; kept in memory is how to take it back
//! (`undo`, `tree`). When the power goes ([`PowerStore::cut`]), the file system is taken away
//! by force, with what the kernel had not yet written (pages of maps among it), everything that
//! was not synced is taken back, and the folder is there again. Syncs are done on the host, too, so
//! that they take as long as there.
//!
//! **What is kept of data.** A file has the bytes and the length it had when the newest fsync or
//! fdatasync began that has succeeded; of a file never synced that is nothing, with length 0. So
//! has a file that is written with O_SYNC or O_DSYNC, or mapped and given to msync(MS_SYNC): the
//! kernel makes a sync of each. Not a sync: close, sync_file_range, and sync(2) and syncfs(2),
//! which the kernel does not tell a file system like this.
//!
//! **What is kept of names** ([`NameLoss`]). ext4 and XFS write changes of names, in their order,
//! into a journal, which a sync of a file or folder makes last up to its own newest change; by
//! themselves they do so every 5 s (ext4) or 30 s (XFS). That, without the clock, is
//! [`NameLoss::Ordered`]. A renamed file is then there with the data of its own last sync: empty,
//! if there was none, as on XFS; ext4 by its default looks for that case (`auto_da_alloc`) and
//! writes the data first. POSIX promises less: a name is kept when its folder is synced, whatever
//! else is ([`NameLoss::Strict`]). LazyFS keeps all names ([`NameLoss::None`]).
//!
//! **What is not so on a disk.** Nothing is written by itself: Linux writes out what is older than
//! 30 s, so that a real loss of power takes less of what is never synced; which of it arrives is
//! not promised. Nothing is torn: a write that was not synced is gone as a whole. Modes, owners and
//! times are not taken back. There are no hard links, devices and extended attributes.
//!
//! **Whoever dies.** Each store is served by a process of its own. When that dies, the kernel
//! answers every call with an error (ENOTCONN), and nothing waits. It ends when its standard input
//! does: with who started it, however that ended. The mount goes with the mount namespace that it
//! was made in ([`separate`]).

mod files;
mod kernel;
mod mount;
mod namespace;
mod process;
mod supply;
mod tree;
mod undo;

pub use namespace::separate;
pub use process::{PowerStore, serve};
pub use supply::PowerSupply;

/// Which names a loss of power takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameLoss {
    /// None.
    None,
    /// Those changed after the newest change that a sync covers, of whatever file or folder.
    #[default]
    Ordered,
    /// Those whose folder was not synced since; of a rename, the folder it leads to.
    Strict,
}

impl NameLoss {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Ordered, Self::Strict];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ordered => "ordered",
            Self::Strict => "strict",
        }
    }
}

/// What a loss of power has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PowerLoss {
    /// Bytes that were not synced, at most.
    pub bytes: u64,
    /// Changes of names that were not synced.
    pub names: u64,
}

impl std::fmt::Display for PowerLoss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not synced, and lost: {} bytes or less, {} changes of names", self.bytes, self.names)
    }
}
