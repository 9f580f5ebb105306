//! Agents as processes of this host.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::engine::Interrupt;

/// Starts so many agents with these arguments, each with a name of its own, and waits until all
/// have ended. They end with this process, however that ends.
///
/// # Errors
/// In words, when one cannot be started, or ends by itself.
pub fn local(program: &Path, agents: u32, arguments: &[String], interrupt: &Interrupt) -> Result<(), String> {
    let mut children = Children(Vec::new());
    for number in 1..=agents {
        let name = format!("local-{}-{number}", std::process::id());
        let mut command = Command::new(program);
        command.arg("agent").args(["--name", &name]).args(arguments);
        end_with_parent(&mut command);
        let child = command.spawn().map_err(|e| format!("cannot start {}: {e}", program.display()))?;
        children.0.push((name, child));
    }
    let mut asked = false;
    loop {
        if interrupt.count() > 0 && !asked {
            asked = true;
            children.ask_to_end();
        }
        let mut left = 0;
        for (name, child) in &mut children.0 {
            match child.try_wait() {
                Ok(None) => left += 1,
                Ok(Some(how)) if how.success() || asked => {}
                Ok(Some(how)) => return Err(format!("{name} ended by itself: {how}")),
                Err(e) => return Err(format!("cannot look after {name}: {e}")),
            }
        }
        if left == 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Lets the kernel end a process when the thread that starts it does.
fn end_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: prctl is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong);
            Ok(())
        });
    }
}

struct Children(Vec<(String, Child)>);

impl Children {
    fn ask_to_end(&mut self) {
        for (_, child) in &mut self.0 {
            if matches!(child.try_wait(), Ok(None)) {
                // SAFETY: kill touches no memory; the process is a child of this one, not yet
                // waited for.
                unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
            }
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.ask_to_end();
        for (_, child) in &mut self.0 {
            let _ = child.wait();
        }
    }
}
