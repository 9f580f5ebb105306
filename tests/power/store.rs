//! A program writes, syncs, writes and is cut: what is lost is the second part, and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use msgbench::system::power::{NameLoss, PowerLoss, PowerStore};

use crate::{PROGRAM, needs};

/// A store in a folder that goes with it.
struct Bench {
    store: PowerStore,
    at: PathBuf,
    _dir: tempfile::TempDir,
}

fn bench(loss: NameLoss) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("at");
    let store = PowerStore::open(Path::new(PROGRAM), &dir.path().join("kept"), &at, loss).unwrap();
    Bench { store, at, _dir: dir }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }
    fn cut(&mut self) -> PowerLoss {
        self.store.cut().unwrap()
    }
    /// A file with these bytes, its name and its bytes synced.
    fn synced(&self, name: &str, bytes: &[u8]) -> File {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.path(name)).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_all().unwrap();
        sync_folder(&self.at);
        file
    }
    fn read(&self, name: &str) -> Option<String> {
        std::fs::read(self.path(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.at).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn sync_folder(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

#[test]
fn exactly_what_was_written_after_the_sync_is_lost() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    for loss in NameLoss::ALL {
        let mut bench = bench(loss);
        let mut file = bench.synced("a", b"");
        // Once by each kind of sync.
        file.write_all(b"one,").unwrap();
        file.sync_all().unwrap();
        file.write_all(b"two,").unwrap();
        file.sync_data().unwrap();
        file.write_all(b"three").unwrap();
        assert_eq!(bench.read("a").unwrap(), "one,two,three");
        drop(file);
        bench.cut();
        assert_eq!(bench.read("a").unwrap(), "one,two,", "{loss:?}");
        // What is kept stays kept; what is written over the rest is lost again.
        let file = OpenOptions::new().write(true).open(bench.path("a")).unwrap();
        file.write_all_at(b"ONE", 0).unwrap();
        drop(file);
        assert_eq!(bench.read("a").unwrap(), "ONE,two,");
        bench.cut();
        assert_eq!(bench.read("a").unwrap(), "one,two,", "{loss:?}");
        assert_eq!(bench.cut(), PowerLoss::default());
    }
}

#[test]
fn a_program_that_is_killed_and_one_whose_power_goes_differ_by_what_was_not_synced() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    let mut bench = bench(NameLoss::Ordered);
    let script = "printf first > a; sync a; sync .; printf second >> a; echo written; exec sleep 60";
    let mut program =
        Command::new("sh").args(["-c", script]).current_dir(&bench.at).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 8];
    std::io::Read::read_exact(program.stdout.as_mut().unwrap(), &mut said).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(bench.read("a").unwrap(), "firstsecond");
    bench.cut();
    assert_eq!(bench.read("a").unwrap(), "first");
}

#[test]
fn appends_truncations_and_holes_go_back_to_the_sync() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    let mut bench = bench(NameLoss::Ordered);
    let long: String = (0..5000).map(|n| format!("{n:04},")).collect();
    bench.synced("appended", long.as_bytes());
    bench.synced("shortened", long.as_bytes());
    bench.synced("emptied", long.as_bytes());
    bench.synced("grown", b"12345");
    bench.synced("cut off by the sync, too", long.as_bytes());
    let mut file = OpenOptions::new().append(true).open(bench.path("appended")).unwrap();
    (0..1000).for_each(|n| writeln!(file, "line {n}").unwrap());
    let file = OpenOptions::new().write(true).open(bench.path("shortened")).unwrap();
    file.set_len(7).unwrap();
    file.write_all_at(b"!", 12_000).unwrap();
    File::create(bench.path("emptied")).unwrap();
    let file = OpenOptions::new().write(true).open(bench.path("grown")).unwrap();
    file.set_len(1 << 20).unwrap();
    let file = OpenOptions::new().write(true).open(bench.path("cut off by the sync, too")).unwrap();
    file.set_len(4).unwrap();
    file.sync_data().unwrap();
    file.set_len(2).unwrap();
    drop(file);
    let lost = bench.cut();
    assert!(lost.bytes > 1 << 20, "{lost:?}");
    assert!(["appended", "shortened", "emptied"].iter().all(|name| bench.read(name).unwrap() == long));
    assert_eq!(bench.read("grown").unwrap(), "12345");
    assert_eq!(bench.read("cut off by the sync, too").unwrap(), "0000");
}

#[test]
fn what_is_written_with_o_sync_or_o_dsync_is_kept() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    let mut bench = bench(NameLoss::Ordered);
    for flag in [libc::O_SYNC, libc::O_DSYNC] {
        bench.synced("a", b"");
        let mut file = OpenOptions::new().append(true).custom_flags(flag).open(bench.path("a")).unwrap();
        file.write_all(b"kept").unwrap();
        // Another way to the same file is not synced by that.
        let mut other = OpenOptions::new().append(true).open(bench.path("a")).unwrap();
        other.write_all(b" lost").unwrap();
        drop((file, other));
        bench.cut();
        assert_eq!(bench.read("a").unwrap(), "kept");
    }
}

#[test]
fn of_a_map_is_kept_what_msync_has_synced() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    const LEN: usize = 64 << 10;
    let mut bench = bench(NameLoss::Ordered);
    let file = bench.synced("mapped", &vec![b'.'; LEN]);
    // SAFETY: the file is open and so long; the map is not used after it is taken away below.
    let map = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), LEN, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    assert_ne!(map, libc::MAP_FAILED);
    // SAFETY: the map is so long and nobody else has it.
    unsafe {
        map.cast::<u8>().write_bytes(b'a', LEN);
        assert_eq!(libc::msync(map, LEN, libc::MS_SYNC), 0);
        map.cast::<u8>().write_bytes(b'b', LEN / 2);
        assert_eq!(libc::munmap(map, LEN), 0);
    }
    drop(file);
    assert!(bench.read("mapped").unwrap().starts_with('b'));
    bench.cut();
    assert_eq!(bench.read("mapped").unwrap(), "a".repeat(LEN));
}

/// The same steps under each rule for names; what is left is written down beside.
#[test]
fn names_are_kept_by_the_rule_that_was_asked_for() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    let steps = |bench: &Bench, syncs: &[&str]| {
        bench.synced("renamed", b"renamed");
        bench.synced("removed", b"removed");
        bench.synced("replaced", b"old");
        bench.synced("other", b"other");
        std::fs::rename(bench.path("renamed"), bench.path("moved")).unwrap();
        std::fs::remove_file(bench.path("removed")).unwrap();
        let mut new = File::create(bench.path("new")).unwrap();
        new.write_all(b"new").unwrap();
        std::fs::rename(bench.path("new"), bench.path("replaced")).unwrap();
        std::fs::create_dir(bench.path("folder")).unwrap();
        let mut inside = File::create(bench.path("folder/inside")).unwrap();
        inside.write_all(b"inside").unwrap();
        for sync in syncs {
            match *sync {
                "new" => new.sync_all().unwrap(),
                "inside" => inside.sync_all().unwrap(),
                folder => sync_folder(&bench.path(folder)),
            }
        }
    };
    let state = |bench: &Bench| {
        let inside = bench.read("folder/inside").map_or(String::new(), |text| format!("/inside={text}"));
        let each = bench.names().into_iter().map(|name| match bench.read(&name) {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}{inside}"),
        });
        each.collect::<Vec<_>>().join(" ")
    };
    let before = "other=other removed=removed renamed=renamed replaced=old";
    for (loss, syncs, left) in [
        (NameLoss::None, &[][..], "folder/inside= moved=renamed other=other replaced="),
        (NameLoss::None, &["new", "inside"], "folder/inside=inside moved=renamed other=other replaced=new"),
        (NameLoss::Ordered, &[], before),
        // A sync writes the file out, which changes it, and makes all changes before that last; the
        // data of others are not synced by that.
        (NameLoss::Ordered, &["new"], "folder/inside= moved=renamed other=other replaced=new"),
        (NameLoss::Ordered, &["inside"], "folder/inside=inside moved=renamed other=other replaced="),
        (NameLoss::Ordered, &["folder"], "folder/inside= moved=renamed other=other replaced="),
        (NameLoss::Strict, &[], before),
        (NameLoss::Strict, &["new"], before),
        (NameLoss::Strict, &["inside", "folder"], before),
        (NameLoss::Strict, &["new", "."], "folder moved=renamed other=other replaced=new"),
        (NameLoss::Strict, &["inside", "folder", "."], "folder/inside=inside moved=renamed other=other replaced="),
    ] {
        let mut bench = bench(loss);
        steps(&bench, syncs);
        bench.cut();
        assert_eq!(state(&bench), left, "{loss:?} with syncs of {syncs:?}");
        assert_eq!(bench.cut(), PowerLoss::default());
        assert_eq!(state(&bench), left, "{loss:?} with syncs of {syncs:?}, again");
    }
}

/// A sync of a file that has not been changed since makes no name last.
#[test]
fn a_sync_covers_what_was_changed_before_its_files_own_change() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    let mut bench = bench(NameLoss::Ordered);
    let old = bench.synced("old", b"0123");
    File::create(bench.path("a")).unwrap();
    old.sync_all().unwrap();
    bench.cut();
    assert_eq!(bench.names(), ["old"]);
    // fdatasync keeps no name where the length is as it was; fsync does.
    for (full, left) in [(false, &["old"][..]), (true, &["a", "old"])] {
        let old = OpenOptions::new().write(true).open(bench.path("old")).unwrap();
        old.write_all_at(b"x", 0).unwrap();
        old.sync_all().unwrap();
        File::create(bench.path("a")).unwrap();
        old.write_all_at(b"y", 0).unwrap();
        if full {
            old.sync_all().unwrap()
        } else {
            old.sync_data().unwrap()
        }
        drop(old);
        bench.cut();
        assert_eq!(bench.names(), left);
        assert_eq!(bench.read("old").unwrap(), "y123");
    }
}

#[test]
fn a_removed_file_that_is_open_goes_on_and_comes_back() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    for loss in NameLoss::ALL {
        let mut bench = bench(loss);
        let file = bench.synced("a", b"kept");
        std::fs::remove_file(bench.path("a")).unwrap();
        file.write_all_at(b"more", 4).unwrap();
        file.sync_all().unwrap();
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"keptmore");
        drop(file);
        bench.cut();
        // The sync of the file came after it was removed.
        let left = match loss {
            NameLoss::Strict => Some("keptmore".to_owned()),
            NameLoss::None | NameLoss::Ordered => None,
        };
        assert_eq!(bench.read("a"), left, "{loss:?}");
    }
}

/// Whoever is in the middle of it gets an error and goes on: nothing waits.
#[test]
fn who_has_files_open_when_the_power_goes_gets_errors() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    let mut bench = bench(NameLoss::Ordered);
    let mut file = bench.synced("a", b"a");
    file.write_all(b"b").unwrap();
    bench.cut();
    assert!(file.write_all(b"c").and_then(|()| file.sync_all()).is_err());
    assert!(File::open(bench.path("a")).is_ok());
    drop(bench);
    assert!(file.sync_all().is_err());
}

#[test]
fn many_write_and_sync_at_once() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    let mut bench = bench(NameLoss::Ordered);
    let writers = 4;
    (0..writers).for_each(|n| drop(bench.synced(&n.to_string(), b"")));
    // What each has synced before the power goes, and what it has written.
    let at = bench.at.clone();
    std::thread::scope(|scope| {
        for n in 0..writers {
            let path = at.join(n.to_string());
            scope.spawn(move || {
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                for round in 0..50 {
                    file.write_all(&[b'a' + n as u8; 3000]).unwrap();
                    if round < 40 {
                        file.sync_data().unwrap();
                    }
                }
            });
        }
    });
    bench.cut();
    for n in 0..writers {
        let bytes = std::fs::read(bench.path(&n.to_string())).unwrap();
        assert_eq!((bytes.len(), bytes.iter().all(|byte| *byte == b'a' + n as u8)), (40 * 3000, true));
    }
}

/// A request that is on its way from the kernel while the power goes ends for whoever asked, and
/// for nobody else: the store is there again.
#[test]
fn the_power_goes_in_the_middle_of_requests() {
    if needs::power(PROGRAM).is_none() {
        return;
    }
    let mut bench = bench(NameLoss::Ordered);
    bench.synced("a", b"a");
    let (at, ended) = (bench.at.clone(), AtomicBool::new(false));
    let served = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    // A name that is not there is asked for each time.
                    if at.join("b").metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let cuts: std::io::Result<Vec<_>> = (0..150).map(|_| bench.store.cut()).collect();
        ended.store(true, Ordering::Relaxed);
        cuts.unwrap();
    });
    assert!(served.into_inner() > 300);
    assert_eq!(bench.read("a").unwrap(), "a");
}
