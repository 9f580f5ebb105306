//! What has no meaning for clients that come and go.

use super::file;
use crate::plan::Pattern;
use crate::plan::problem::{Problem, Problems};

/// Refuses keys that a workload of such clients does not read.
pub(super) fn check_connect(at: &str, w: &file::WorkloadTable, problems: &mut Problems) {
    if w.pattern != Pattern::Connect {
        return;
    }
    for (key, written) in [
        ("consumers", w.consumers.is_some()),
        ("delivery", w.delivery != file::DeliveryTable::default()),
        ("intruders", w.intruders.is_some()),
    ] {
        if written {
            let message =
                format!("`{key}` has no meaning with pattern = \"connect\": each client receives its own message");
            problems.add(Problem::new(format!("{at}.{key}"), message).hint("remove it"));
        }
    }
}
