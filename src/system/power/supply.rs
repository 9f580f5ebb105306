//! The stores of a system: one for the files of each of its processes.

use std::path::{Path, PathBuf};

use super::super::own_program::{PROGRAM_VARIABLE, own_program};
use super::process::PowerStore;
use super::{NameLoss, PowerLoss};

/// What each of its nodes has its files on, where that is wanted.
#[derive(Debug, Default)]
pub struct PowerSupply {
    program: Option<PathBuf>,
    stores: Vec<PowerStore>,
}

impl PowerSupply {
    /// From now on files are to be where they can lose their power.
    ///
    /// # Errors
    /// When msgbench does not find itself, which serves them.
    pub fn want(&mut self) -> Result<(), String> {
        let explicit = std::env::var_os(PROGRAM_VARIABLE);
        let program = own_program(explicit.as_deref().map(Path::new));
        self.program = Some(program.map_err(|e| format!("the msgbench program cannot be found: {e}"))?);
        Ok(())
    }

    /// Puts a store at each place, that of node 0 first, if that is wanted. What it keeps is beside
    /// it.
    ///
    /// # Errors
    /// In words, when one cannot be served.
    pub fn put_at(&mut self, places: &[PathBuf]) -> Result<(), String> {
        let Some(program) = &self.program else { return Ok(()) };
        for at in places {
            let mut kept = at.clone().into_os_string();
            kept.push(".kept");
            let store = PowerStore::open(program, Path::new(&kept), at, NameLoss::default());
            let failed = |e| format!("{} cannot be a store that loses its power: {e}", at.display());
            self.stores.push(store.map_err(failed)?);
        }
        Ok(())
    }

    /// Takes all stores away.
    pub fn clear(&mut self) {
        self.stores.clear();
    }

    /// The power of a node goes and comes back. One that stores nothing loses nothing.
    ///
    /// # Errors
    /// In words, when the store fails.
    pub fn cut(&mut self, node: usize) -> Result<PowerLoss, String> {
        if self.program.is_none() {
            return Err(format!("the files of node {node} cannot lose their power"));
        }
        let cut = self.stores.get_mut(node).map_or(Ok(PowerLoss::default()), PowerStore::cut);
        cut.map_err(|e| format!("the power of node {node}: {e}"))
    }
}
