//! The agents that run the load: `[agents]`, and the key `agents` of a workload.

use std::collections::BTreeMap;

use super::bounds::check_count;
use super::file::{AgentsTable, ScenarioFile, WorkloadTable};
use crate::plan::problem::{KEPT_DOT, Problem, Problems};
use crate::plan::{AgentLabel, AgentRoles, AgentsPlan, LabelledAgents, Pattern};

const MAX_AGENTS: u32 = 10_000;
/// How the address of a control server begins.
const SCHEMES: [&str; 4] = ["nats://", "tls://", "ws://", "wss://"];

/// Who runs the clients of a workload.
pub(super) fn roles(at: &str, w: &WorkloadTable, file: &ScenarioFile, problems: &mut Problems) -> AgentRoles {
    let (own, all) = (w.agents.as_ref(), file.agents.as_ref());
    let Some(all) = all else {
        if own.is_some() {
            let message = "the scenario asks for no agents";
            problems
                .add(Problem::new(format!("{at}.agents"), message).hint("add `[agents]` with `count`, or remove it"));
        }
        return AgentRoles::default();
    };
    if all.count == Some(0) {
        return AgentRoles::default();
    }
    let roles = effective(w, all);
    for (key, own) in
        [("publish", own.and_then(|o| o.publish.as_ref())), ("consume", own.and_then(|o| o.consume.as_ref()))]
    {
        if let Some(label) = own {
            problems.take(check_label(&format!("{at}.agents.{key}"), label));
        }
    }
    roles
}

/// What holds for a workload.
fn effective(w: &WorkloadTable, all: &AgentsTable) -> AgentRoles {
    let own = w.agents.clone().unwrap_or_default();
    AgentRoles {
        publish: own.publish.or_else(|| all.publish.clone()),
        consume: own.consume.or_else(|| all.consume.clone()).filter(|_| consumes(w)),
    }
}

/// Whether a workload has consumers that agents run.
fn consumes(w: &WorkloadTable) -> bool {
    w.target.is_none() && w.pattern != Pattern::Connect && w.consumers != Some(0)
}

fn check_label(path: &str, label: &str) -> Result<(), Problem> {
    match label.parse::<AgentLabel>() {
        Ok(_) => Ok(()),
        Err(e) => Err(Problem::new(path, format!("`{}` is not a label", label.escape_debug()))
            .hint(e.to_string().split_once(": ").map_or_else(|| e.to_string(), |(_, hint)| hint.to_owned()))),
    }
}

/// The agents of a scenario; none where it asks for none.
pub(super) fn agents(file: &ScenarioFile, problems: &mut Problems) -> Option<AgentsPlan> {
    let table = file.agents.as_ref().filter(|t| t.count != Some(0))?;
    for (key, label) in [("publish", &table.publish), ("consume", &table.consume)] {
        if let Some(label) = label {
            problems.take(check_label(&format!("agents.{key}"), label));
        }
    }
    if let Some(url) = table.control.as_ref().filter(|url| !SCHEMES.iter().any(|scheme| url.starts_with(scheme))) {
        // Without it: a password may stand in it.
        let message = match url.trim() {
            "" => "the address of the control server is empty",
            _ => "the address of the control server cannot be read",
        };
        problems.add(Problem::new("agents.control", message).hint("write it like \"nats://host:4222\""));
    }
    let given = table.labels.as_ref().map(|l| l.values().fold(0u32, |sum, n| sum.saturating_add(*n)));
    let Some(count) = table.count.or(given) else {
        let message = "nothing says how many agents there are";
        problems.add(Problem::new("agents", message).hint("write `count = 4`, or give --agents 4"));
        return None;
    };
    problems.take(check_count("agents.count", count, MAX_AGENTS))?;
    if table.may_lose >= count {
        let message = format!("{} of {count} agents are all of them", table.may_lose);
        problems.add(Problem::new("agents.may-lose", message).hint(format!("write a number below {count}")));
    }
    let labels = match &table.labels {
        Some(written) => written_labels(file, written, count, problems),
        None => shared_labels(file, table, count, problems),
    }?;
    Some(AgentsPlan { count, may_lose: table.may_lose, labels, control: table.control.clone() })
}

/// The labels that clients are placed by, each with the key that names it first; and whether some
/// clients have none.
fn named(file: &ScenarioFile, table: &AgentsTable) -> (BTreeMap<String, String>, bool) {
    let (mut all, mut free) = (BTreeMap::new(), false);
    for (i, w) in file.workload.iter().enumerate() {
        let own = w.agents.clone().unwrap_or_default();
        let roles = effective(w, table);
        let sides =
            [("publish", own.publish, roles.publish, true), ("consume", own.consume, roles.consume, consumes(w))];
        for (key, own, label, there) in sides {
            let path = if own.is_some() { format!("workload.{i}.agents.{key}") } else { format!("agents.{key}") };
            match label {
                Some(label) => drop(all.entry(label).or_insert(path)),
                None => free |= there,
            }
        }
    }
    (all, free)
}

/// As many of each label.
fn shared_labels(
    file: &ScenarioFile,
    table: &AgentsTable,
    count: u32,
    problems: &mut Problems,
) -> Option<Vec<LabelledAgents>> {
    let (named, free) = named(file, table);
    let Some((first, path)) = named.first_key_value().filter(|_| free || named.len() > count as usize) else {
        let (n, labels) = (named.len() as u32, named.into_keys());
        let each = |(i, label): (u32, String)| LabelledAgents { label, agents: count / n + u32::from(i < count % n) };
        return Some((0..).zip(labels).map(each).collect());
    };
    problems.add(if free {
        let message = format!("some clients are placed by `{first}` and others by no label");
        let hint = format!("say how many agents have it: `labels = {{ \"{first}\" = 1 }}`, or place all clients");
        Problem::new(path.clone(), message).hint(hint)
    } else {
        let message = format!("{count} agents cannot have {} labels", named.len());
        Problem::new("agents.count", message).hint(format!("write at least {}", named.len()))
    });
    None
}

/// As many as is written; whoever is placed has somewhere to be, and each agent something to do.
fn written_labels(
    file: &ScenarioFile,
    written: &BTreeMap<String, u32>,
    count: u32,
    problems: &mut Problems,
) -> Option<Vec<LabelledAgents>> {
    let before = problems.0.len();
    let (named, free) = named(file, file.agents.as_ref()?);
    for (label, path) in named.iter().filter(|(label, _)| !written.contains_key(*label)) {
        let message = format!("no agent has the label `{label}`");
        problems.add(Problem::new(path.clone(), message).hint(format!("add `\"{label}\" = 1` to `agents.labels`")));
    }
    for (label, agents) in written {
        let path = format!("agents.labels.{}", label.replace('.', KEPT_DOT));
        problems.take(check_label(&path, label));
        problems.take(check_count(&path, *agents, MAX_AGENTS));
        if !free && !named.contains_key(label) {
            let message = format!("no client is placed by `{label}`: these agents would do nothing");
            problems.add(Problem::new(path, message).hint("remove it, or name it in `publish` or `consume`"));
        }
    }
    let labelled: u32 = written.values().fold(0, |sum, n| sum.saturating_add(*n));
    if labelled > count {
        let message = format!("{labelled} agents have a label, and there are {count}");
        problems.add(Problem::new("agents.labels", message).hint(format!("write `count = {labelled}`, or fewer here")));
    } else if labelled < count && !free {
        let message =
            format!("{} of {count} agents would do nothing: all clients are placed by labels", count - labelled);
        problems.add(Problem::new("agents.count", message).hint(format!("write {labelled}, or more in `labels`")));
    }
    let all = written.iter().map(|(label, agents)| LabelledAgents { label: label.clone(), agents: *agents });
    (problems.0.len() == before).then(|| all.collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Overrides, parse};
    use crate::engine::Register;
    use crate::plan::Plan;

    /// A scenario with these agents; the first workload says this of itself.
    fn read(agents: &str, of_workload: &str) -> Result<Plan, String> {
        let text = format!(
            "name = \"t\"\nquestion = \"?\"\n[[system]]\ndriver = \"nats\"\n[[workload]]\npattern = \"m-to-n\"\n\
             producers = 3\nconsumers = 2\nload.rate = \"100/s\"\n{of_workload}\n{agents}\n"
        );
        let types = Register::built_in().types();
        parse(Path::new("t.toml"), text, &Overrides::default(), &types).map(|s| s.plan).map_err(|e| e.to_string())
    }

    fn labels(plan: &Plan) -> Vec<(String, u32)> {
        plan.agents.iter().flat_map(|a| &a.labels).map(|l| (l.label.clone(), l.agents)).collect()
    }

    #[test]
    fn producers_are_raised_for_the_agents_that_have_them() {
        let plan = read("[agents]\ncount = 4", "").unwrap();
        assert_eq!(plan.cases[0].workloads[0].topology.producers, 4);
        let plan = read("[agents]\ncount = 5\npublish = \"zone=a\"\nconsume = \"zone=b\"", "").unwrap();
        assert_eq!(labels(&plan), [("zone=a".to_owned(), 3), ("zone=b".to_owned(), 2)]);
        assert_eq!(plan.cases[0].workloads[0].topology.producers, 3);
        let labelled =
            "[agents]\npublish = \"zone=a\"\nconsume = \"zone=b\"\nlabels = { \"zone=a\" = 2, \"zone=b\" = 1 }";
        let plan = read(labelled, "agents.consume = \"zone=a\"");
        assert!(plan.unwrap_err().contains("no client is placed by `zone=b`"));
        let many = read(&labelled.replace("2,", "4294967295,"), "").unwrap_err();
        assert!(many.contains("4294967295"), "{many}");
        let plan = read(labelled, "").unwrap();
        assert_eq!((plan.agents.as_ref().unwrap().count, plan.cases[0].workloads[0].topology.producers), (3, 4));
    }

    #[test]
    fn without_a_count_of_agents_this_process_runs_the_load() {
        let plan = read("[agents]\ncount = 0\npublish = \"zone=a\"", "").unwrap();
        assert!(plan.agents.is_none() && plan.cases[0].workloads[0].agents.is_empty());
        assert!(read("", "").unwrap().agents.is_none());
    }

    #[test]
    fn what_cannot_be_placed_is_refused_where_it_stands() {
        let cases = [
            ("", "agents.publish = \"zone=a\"", "t.toml:10:1", "no agents", "[agents]"),
            ("[agents]", "", "t.toml:11:1", "nothing says how many agents", "count = 4"),
            ("[agents]\ncount = 2\npublish = \"zone\"", "", "t.toml:13:11", "`zone` is not a label", "key=value"),
            ("[agents]\ncount = 2\npublish = \"zone=a\"", "", "t.toml:13:11", "others by no label", "labels = "),
            (
                "[agents]\ncount = 1\npublish = \"zone=a\"\nconsume = \"zone=b\"",
                "",
                "t.toml:12:9",
                "1 agents cannot have 2 labels",
                "at least 2",
            ),
            (
                "[agents]\ncount = 4\npublish = \"zone=a\"\nconsume = \"zone=b\"\nlabels = { \"zone=a\" = 4 }",
                "",
                "t.toml:14:11",
                "no agent has the label `zone=b`",
                "agents.labels",
            ),
            (
                "[agents]\ncount = 4\npublish = \"zone=a\"\nconsume = \"zone=a\"\nlabels = { \"zone=a\" = 3 }",
                "",
                "t.toml:12:9",
                "1 of 4 agents would do nothing",
                "write 3",
            ),
            (
                "[agents]\ncount = 2\npublish = \"zone=a\"\nlabels = { \"zone=a\" = 3 }",
                "",
                "t.toml:14:10",
                "3 agents have a label, and there are 2",
                "count = 3",
            ),
            ("[agents]\ncount = 4\nmay-lose = 4", "", "t.toml:13:12", "are all of them", "below 4"),
            ("[agents]\ncount = 4\ncontrol = \"http://x\"", "", "t.toml:13:11", "", "nats://"),
            (
                "[agents]\ncount = 4\n[[event]]\nat = \"1s\"\naction = \"cut\"",
                "",
                "t.toml:15:10",
                "`cut` puts the systems into a network of this run's own",
                "--agents 0",
            ),
        ];
        for (agents, workload, place, message, hint) in cases {
            let said = read(agents, workload).unwrap_err();
            assert!(said.contains(place) && said.contains(message) && said.contains(hint), "{agents}: {said}");
        }
    }
}
