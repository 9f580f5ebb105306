//! The wish to stop: signals of the user and of the system.

use tokio::signal::unix::{SignalKind, signal};

use crate::engine::Interrupt;
use crate::units::say;

use super::Failure;

/// Turns SIGINT, SIGTERM and SIGHUP into a wish to stop. The thread ends with the process.
pub(super) fn listen(interrupt: &Interrupt) -> Result<(), Failure> {
    let words =
        ["\nmsgbench: ending this trial, keeping what is recorded; again to give up at once", "\nmsgbench: giving up"];
    listen_with(interrupt, words)
}

/// The same, with what is said to the first and to later ones.
pub(super) fn listen_with(interrupt: &Interrupt, words: [&'static str; 2]) -> Result<(), Failure> {
    let interrupt = interrupt.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    kinds.extend((!hangup_is_ignored()).then(SignalKind::hangup));
    let signals = {
        let _inside = runtime.enter();
        kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()
    };
    let mut signals = signals.map_err(Failure::internal)?;
    let listener = move || {
        runtime.block_on(async {
            loop {
                let any = signals.iter_mut().map(|s| Box::pin(s.recv()));
                futures_util::future::select_all(any).await;
                say(words[usize::from(interrupt.raise() > 1)]);
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(listener).map_err(Failure::internal)?;
    Ok(())
}

/// Whether this process is to outlive its terminal, as nohup(1) does.
pub(super) fn hangup_is_ignored() -> bool {
    // SAFETY: sigaction is plain data for which all zeros is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `action` is valid and writable; without a new action the call changes nothing.
    let asked = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Lets a write beyond the limit on the size of files (RLIMIT_FSIZE) fail with words instead of
/// ending the process. A handler, unlike an ignored signal, is not inherited by what is started.
pub(super) fn let_large_writes_fail() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing, which is async-signal-safe.
    unsafe { libc::signal(libc::SIGXFSZ, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t) };
}
