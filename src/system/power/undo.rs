//! What takes a file back to what it was when it was last synced.
//!
//! The file on the host holds what is written. For each byte that was there at the last sync and is
//! written over, or cut off, its block of then is kept here; what lies beyond the length of then
//! needs nothing kept. While a sync runs, more may be written that it does not cover: so there are
//! layers, and a sync that succeeds drops those that were there when it began.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes that are kept at a time.
const BLOCK: u64 = 4096;

/// What has been changed since a sync began; a file that is as it was synced has no layer.
#[derive(Debug, Default)]
pub(super) struct FileUndo {
    layers: VecDeque<UndoLayer>,
    /// Whether the newest layer takes what is written, as no sync has begun since.
    open: bool,
    /// How many layers there have been.
    made: u64,
}

#[derive(Debug)]
struct UndoLayer {
    number: u64,
    /// The length the file had.
    len: u64,
    /// Blocks as they were, by their number; `None` is one of zeros.
    blocks: BTreeMap<u64, Option<Box<[u8]>>>,
}

impl FileUndo {
    /// Of a file that was just made: synced, it has never been.
    pub(super) fn of_new() -> Self {
        let mut undo = Self::default();
        undo.begin(0);
        undo
    }

    fn begin(&mut self, len: u64) {
        self.made += 1;
        self.open = true;
        self.layers.push_back(UndoLayer { number: self.made, len, blocks: BTreeMap::new() });
    }

    /// Whether it is as it was synced.
    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Keeps what is about to be changed: the bytes from `from` up to `until`, as far as they were
    /// there.
    pub(super) fn keep(&mut self, file: &File, from: u64, until: u64) -> io::Result<()> {
        if !self.open {
            self.begin(file.metadata()?.len());
        }
        let Some(layer) = self.layers.back_mut() else { return Ok(()) };
        let until = until.min(layer.len);
        if from >= until {
            return Ok(());
        }
        for number in from / BLOCK..=(until - 1) / BLOCK {
            if layer.blocks.contains_key(&number) {
                continue;
            }
            let begin = number * BLOCK;
            let mut block = vec![0; (layer.len - begin).min(BLOCK) as usize].into_boxed_slice();
            read_up_to(file, &mut block, begin)?;
            layer.blocks.insert(number, block.iter().any(|byte| *byte != 0).then_some(block));
        }
        Ok(())
    }

    /// A sync begins: what is written from now on is not covered by it. What it returns is for
    /// [`synced`](Self::synced).
    pub(super) fn syncing(&mut self) -> u64 {
        self.open = false;
        self.made
    }

    /// The sync that began with this number has succeeded.
    pub(super) fn synced(&mut self, covered: u64) {
        while self.layers.front().is_some_and(|layer| layer.number <= covered) {
            self.layers.pop_front();
        }
    }

    /// Makes the file what it was when it was last synced; returns how many bytes that changed, at
    /// most.
    pub(super) fn take_back(&mut self, file: &File) -> io::Result<u64> {
        let mut changed = 0;
        while let Some(layer) = self.layers.pop_back() {
            let now = file.metadata()?.len();
            changed += now.saturating_sub(layer.len);
            file.set_len(layer.len)?;
            for (number, block) in layer.blocks {
                let begin = number * BLOCK;
                let len = (layer.len - begin).min(BLOCK);
                let zeros = [0; BLOCK as usize];
                file.write_all_at(block.as_deref().unwrap_or(&zeros[..len as usize]), begin)?;
                changed += len;
            }
        }
        self.open = false;
        Ok(changed)
    }
}

/// Reads what is there; the rest of the buffer stays as it is.
fn read_up_to(file: &File, buffer: &mut [u8], from: u64) -> io::Result<()> {
    let mut held = 0;
    while held < buffer.len() {
        match file.read_at(&mut buffer[held..], from + held as u64) {
            Ok(0) => break,
            Ok(n) => held += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, u8, usize),
        Cut(u64),
        BeginSync,
        EndSync,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u64..20_000, any::<u8>(), 1usize..9000).prop_map(|(at, byte, len)| Step::Write(at, byte, len)),
            2 => (0u64..25_000).prop_map(Step::Cut),
            2 => Just(Step::BeginSync),
            2 => Just(Step::EndSync),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Whatever is written, cut and synced, by turns or at once: what comes back is what was
        /// there when the newest sync that has succeeded began.
        #[test]
        fn a_file_goes_back_to_its_last_sync(steps in proptest::collection::vec(step(), 1..40), new in any::<bool>()) {
            let file = tempfile::tempfile().unwrap();
            let mut expected: Vec<u8> = Vec::new();
            let mut undo = FileUndo::default();
            if new {
                undo = FileUndo::of_new();
            } else {
                expected = (0..9999u32).map(|n| n as u8).collect();
                file.write_all_at(&expected, 0).unwrap();
            }
            let mut now = expected.clone();
            let mut under_way: Option<(u64, Vec<u8>)> = None;
            for step in steps {
                match step {
                    Step::Write(at, byte, len) => {
                        undo.keep(&file, at, at + len as u64).unwrap();
                        file.write_all_at(&vec![byte; len], at).unwrap();
                        let end = at as usize + len;
                        now.resize(now.len().max(end), 0);
                        now[at as usize..end].fill(byte);
                    }
                    Step::Cut(len) => {
                        undo.keep(&file, len, u64::MAX).unwrap();
                        file.set_len(len).unwrap();
                        now.resize(len as usize, 0);
                    }
                    Step::BeginSync if under_way.is_none() => under_way = Some((undo.syncing(), now.clone())),
                    Step::BeginSync => {}
                    Step::EndSync => if let Some((number, then)) = under_way.take() {
                        undo.synced(number);
                        expected = then;
                    }
                }
            }
            undo.take_back(&file).unwrap();
            prop_assert!(undo.is_empty());
            let mut found = vec![0; file.metadata().unwrap().len() as usize];
            read_up_to(&file, &mut found, 0).unwrap();
            prop_assert!(found == expected, "{} bytes, not {}", found.len(), expected.len());
        }
    }
}
