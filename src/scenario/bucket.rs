//! A key-value store as the service of a workload: its requests get keys that another workload
//! puts.

use super::file::{ScenarioFile, TargetTable};
use crate::plan::problem::{Problem, Problems};
use crate::plan::{Pattern, ServiceTarget};

/// The store that a workload of key-value puts into, by the name of that workload.
pub(super) fn bucket(
    at: &str,
    name: &str,
    written: &TargetTable,
    file: &ScenarioFile,
    problems: &mut Problems,
) -> Option<ServiceTarget> {
    let beside = TargetTable { bucket: written.bucket.clone(), ..TargetTable::default() };
    if *written != beside {
        let hint = "remove what stands beside `bucket`";
        problems.add(Problem::new(at, "a request goes to a bucket or to a service, not to both").hint(hint));
        return None;
    }
    let stores = file.workload.iter().filter(|w| w.pattern == Pattern::KeyValue);
    let names: Vec<&str> = stores.map(|w| w.name.as_deref().unwrap_or(w.pattern.name())).collect();
    if names.contains(&name) {
        return Some(ServiceTarget::Bucket { bucket: name.to_owned() });
    }
    let hint = match names.as_slice() {
        [] => "add a [[workload]] with `pattern = \"key-value\"`, and write its name here".to_owned(),
        all => format!("there are: `{}`", all.join("`, `")),
    };
    let message = format!("no workload of pattern key-value is called `{}`", name.escape_debug());
    problems.add(Problem::new(format!("{at}.bucket"), message).hint(hint));
    None
}
