//! A type of system is known everywhere by being registered, and nowhere else by its name.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that cannot go on fails here; helpers need no docs")]

#[path = "../examples/custom_driver.rs"]
mod custom_driver;
#[path = "house/imports.rs"]
#[allow(dead_code, reason = "the house test uses the rest")]
mod imports;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::PoisonError;

use msgbench::engine::{Clients, Register, run_with};
use msgbench::plan::{Plan, SystemSpec, SystemType};
use msgbench::record::{Outcome, Skipped};
use msgbench::scenario::{Overrides, parse, schema};
use msgbench::system::{Availability, CreateRequest, Provider, System, SystemError};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

fn plan(text: &str, overrides: &Overrides) -> Result<Plan, String> {
    let types = custom_driver::register().types();
    parse(Path::new("t.toml"), text.to_owned(), overrides, &types).map(|s| s.plan).map_err(|e| e.to_string())
}

fn said(from: &str, to: &str) -> String {
    plan(&custom_driver::SCENARIO.replace(from, to), &Overrides::default()).unwrap_err()
}

#[test]
fn the_example_runs_and_prints_percentiles() {
    let mut out = Vec::new();
    custom_driver::measure(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let first = text.lines().next().unwrap();
    let number = |word: &str| -> u64 {
        let before = first.split(&format!(" {word}")).next().unwrap();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    // The schedule decides how many are due in a second; a busy host may send the last ones late.
    let sent = number("sent");
    assert!((1900..=2001).contains(&sent), "{text}");
    assert_eq!((number("delivered"), number("lost")), (2 * sent, 0), "{text}");
    assert!(text.lines().any(|l| l.trim_start().starts_with("p99 ") && l.ends_with(" us")), "{text}");
}

#[test]
fn a_scenario_knows_a_type_that_is_registered() {
    let near = said("driver = \"mailbox\"", "driver = \"mailbix\"");
    assert!(near.starts_with("t.toml:5:") && near.contains("there is no driver `mailbix`"), "{near}");
    assert!(near.contains("did you mean `mailbox`?") && near.contains("reference, nats"), "{near}");
    let url = said("driver = \"mailbox\"", "driver = \"mailbox\"\nurl = \"x\"");
    assert!(url.contains("the mailbox driver connects to nothing"), "{url}");
    let systems = |name: &str| Overrides { systems: vec![name.into()], ..Overrides::default() };
    let text = custom_driver::SCENARIO.replace("driver = \"mailbox\"", "driver = \"null\"").replace("options", "#");
    assert_eq!(plan(&text, &systems("mailbox")).unwrap().systems[0].driver, "mailbox");
    let near = plan(&text, &systems("mailbax")).unwrap_err();
    assert!(near.contains("did you mean `mailbox`?"), "{near}");
    let expect = format!("{}[[expect]]\nthat = \"ack.p99 < 1s\"\n", custom_driver::SCENARIO);
    let words = plan(&expect, &Overrides::default()).unwrap_err();
    assert!(words.contains("mailbox acknowledges nothing that it does not store"), "{words}");
}

#[test]
fn its_options_are_checked_shown_to_editors_and_searched_for_secrets() {
    let register = custom_driver::register();
    let mut plan = plan(custom_driver::SCENARIO, &Overrides::default()).unwrap();
    register.check(&plan).unwrap();
    let shown = serde_json::to_string(&register.secrets(&plan).clean(plan.clone())).unwrap();
    assert!(!shown.contains("s3cret") && shown.contains("(redacted)"), "{shown}");
    plan.systems[0].options.insert("capacity".into(), 0.into());
    let words = register.check(&plan).unwrap_err().to_string();
    assert_eq!(words, "mailbox: option `capacity`: must be at least 1");
    plan.systems[0].options.remove("capacity");
    plan.systems[0].options.insert("capasity".into(), 1.into());
    let words = register.check(&plan).unwrap_err().to_string();
    assert!(words.contains("mailbox has no such option; did you mean `capacity`?"), "{words}");

    let schema = schema(&register.types());
    let system = &schema["$defs"]["SystemTable"];
    let all = system["properties"]["driver"]["oneOf"].as_array().unwrap();
    assert!(all.iter().any(|d| d["const"] == "mailbox" && d["description"].as_str().unwrap().contains("toy")));
    let rules = system["allOf"].as_array().unwrap();
    let own = rules.iter().find(|r| r["if"]["properties"]["driver"]["const"] == "mailbox").unwrap();
    assert!(own["then"]["properties"]["options"]["properties"]["capacity"].is_object(), "{own}");
}

/// A type whose server is not here.
struct Gone;

impl Provider for Gone {
    fn describe(&self) -> SystemType {
        SystemType::new("gone", "A server that is not installed.")
    }
    fn availability(&self) -> Availability {
        Availability::Missing { reason: "no gone-server".into(), remedy: "install it".into() }
    }
    fn create(&self, _: &SystemSpec, _: CreateRequest<'_>) -> Result<Box<dyn System>, SystemError> {
        panic!("made although it is not here");
    }
}

fn skipped(driver: &str, register: &Register, change: impl Fn(&mut Plan)) -> Vec<Skipped> {
    let text = custom_driver::SCENARIO.replace("driver = \"mailbox\"\noptions", &format!("driver = \"{driver}\"\n#"));
    let mut plan = parse(Path::new("t.toml"), text, &Overrides::default(), &register.types()).map(|s| s.plan).unwrap();
    change(&mut plan);
    let results = custom_driver::Results::default();
    run_with(&plan, register, &results).unwrap();
    assert!(results.trials.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    results.skipped.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn what_is_not_here_or_lacks_a_feature_is_skipped_with_the_reason() {
    let register = custom_driver::register().add(Gone, Clients::of::<custom_driver::Mailbox>());
    let found: Vec<_> =
        register.available().into_iter().filter(|(name, _)| ["mailbox", "gone"].contains(name)).collect();
    assert!(matches!(&found[..], [("mailbox", Availability::Found { .. }), ("gone", Availability::Missing { .. })]));
    let gone = skipped("gone", &register, |_| {});
    assert_eq!((gone[0].reason.as_str(), gone[0].remedy.as_str()), ("no gone-server", "install it"));
    let lacks = skipped("mailbox", &register, |plan| plan.cases[0].workloads[0].delivery.durable = true);
    assert_eq!(lacks[0].reason, "has no such feature: messages are not stored");
}

/// A plan of another build: the name is kept, and the run says what is missing.
#[test]
fn a_plan_with_a_type_that_is_not_registered_is_read_and_its_system_skipped() {
    let plan = plan(custom_driver::SCENARIO, &Overrides::default()).unwrap();
    let kept = serde_json::to_string(&plan).unwrap();
    let again: Plan = serde_json::from_str(&kept).unwrap();
    assert_eq!(again, plan);
    let results = custom_driver::Results::default();
    run_with(&again, &Register::built_in(), &results).unwrap();
    let skipped = results.skipped.into_inner().unwrap();
    assert!(skipped[0].reason.contains("no driver `mailbox`"), "{skipped:?}");
    let trials = results.trials.into_inner().unwrap();
    assert!(trials.iter().all(|t| !matches!(t.trial.outcome, Outcome::Complete)));
}

/// Files beside its own and the register that name a type of system, with the reason.
const NAMES: [(&str, &str); 13] = [
    ("src/calibrate: reference", "the reference broker injects what is known to be true"),
    ("src/calibrate: null", "the floor of the harness is measured without a broker"),
    ("src/calibrate: kafka", "it asks for the cargo feature"),
    ("src/cli/broker/lines.rs: kafka", "a key of the ready line of the built-in broker"),
    ("src/cli/broker/lines.rs: nats", "a scheme of addresses"),
    ("src/plan/address.rs: kafka", "a scheme of addresses"),
    ("src/plan/address.rs: nats", "a scheme of addresses"),
    ("src/system/external.rs: jetstream", "a field of INFO"),
    ("src/system/external.rs: nats", "a scheme of addresses"),
    ("src/system/nats/monitor.rs: jetstream", "a field of /varz"),
    ("src/system/nats/types.rs: jetstream", "a nats-server is two types: this is its own file"),
    ("src/system/none.rs: null", "its own file"),
    ("src/system/reference.rs: kafka", "a key of the ready line of the built-in broker"),
];

/// String literals outside of attributes and of what is compiled for tests only.
fn literals(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut i, mut skip) = (0, false);
    while i < tokens.len() {
        match &tokens[i] {
            TokenTree::Punct(p) if p.as_char() == '#' => {
                let inner = matches!(&tokens.get(i + 1), Some(TokenTree::Punct(p)) if p.as_char() == '!');
                i += 1 + usize::from(inner);
                if let Some(TokenTree::Group(attribute)) = tokens.get(i) {
                    let text = attribute.stream().to_string().replace(' ', "");
                    skip |= text.starts_with("cfg(") && text.contains("test");
                }
            }
            TokenTree::Punct(p) if p.as_char() == ';' => skip = false,
            TokenTree::Group(g) if skip && g.delimiter() == Delimiter::Brace => skip = false,
            TokenTree::Group(g) if !skip => literals(g.stream(), found),
            TokenTree::Literal(l) if !skip => {
                let text = l.to_string();
                let body = text.trim_start_matches('r').trim_matches('#');
                if let Some(body) = body.strip_prefix('"').and_then(|b| b.strip_suffix('"')) {
                    found.push((body.replace("\\\"", "\""), l.span().start().line));
                }
            }
            _ => {}
        }
        i += 1;
    }
}

/// `file: name` for each type of system that a file names in a string.
fn named(files: &[(PathBuf, String)], names: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in files {
        let mut all = Vec::new();
        literals(TokenStream::from_str(text).unwrap(), &mut all);
        let stem = path.with_extension("");
        for (text, line) in all {
            let is = |name: &&&str| text == **name || text.contains(&format!("driver = \"{name}\""));
            // A folder or file that is called like the type is its own.
            let own = |name: &str| stem.iter().any(|part| part == name);
            for name in names.iter().filter(is).filter(|name| !own(name)) {
                println!("{}:{line}: {name}", path.display());
                let place = if path.starts_with("src/calibrate") { Path::new("src/calibrate") } else { path };
                found.insert(format!("{}: {name}", place.display()));
            }
        }
    }
    found
}

#[test]
fn no_other_file_knows_a_type_by_its_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let register = Path::new("src/engine/register.rs");
    let tree = imports::Tree::read(root);
    // Without a line of code: compiled for tests only.
    let code = tree.sources.iter().filter(|s| s.code_lines > 0 && s.path != register);
    let files: Vec<_> = code.map(|s| (s.path.clone(), std::fs::read_to_string(root.join(&s.path)).unwrap())).collect();
    let names = Register::built_in().types().names();
    let excused: BTreeSet<String> = NAMES.iter().map(|(what, _)| (*what).to_owned()).collect();
    let found = named(&files, &names);
    let new: Vec<_> = found.difference(&excused).collect();
    assert!(new.is_empty(), "a type of system is named outside of its own files and the register: {new:#?}");
    let vain: Vec<_> = excused.difference(&found).collect();
    assert!(vain.is_empty(), "excused and need not be: {vain:#?}");
}

#[test]
fn a_name_is_seen_wherever_it_stands() {
    let of = |text: &str| named(&[("src/compare/mod.rs".into(), text.to_owned())], &["nats"]).len();
    for text in [
        "const A: &str = \"nats\";",
        "fn f(s: &str) -> bool { matches!(s, \"nats\") }",
        "fn f() -> String { format!(\"{}\", r#\"driver = \"nats\"\"#) }",
        "const A: &str = \"x\\ndriver = \\\"nats\\\"\\n\";",
    ] {
        assert_eq!(of(text), 1, "not seen: {text}");
    }
    for text in [
        "#[cfg(test)] mod tests { const A: &str = \"nats\"; }",
        "#[cfg(feature = \"nats\")] const A: u8 = 0;",
        "/// \"nats\"\nconst A: &str = \"nats://host\";",
    ] {
        assert_eq!(of(text), 0, "{text}");
    }
}
