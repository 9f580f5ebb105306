//! A type of system is known by being registered, and nowhere else by its name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use msgbench::engine::Register;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::imports;

/// Files beside its own and the register that name a type of system, with the reason.
const NAMES: [(&str, &str); 19] = [
    ("src/calibrate: reference", "the reference broker injects what is known to be true"),
    ("src/calibrate: null", "the floor of the harness is measured without a broker"),
    ("src/calibrate: kafka", "it asks for the cargo feature"),
    ("src/cli/broker/lines.rs: kafka", "a key of the ready line of the built-in broker"),
    ("src/cli/broker/lines.rs: nats", "a scheme of addresses"),
    ("src/cli/claims/measured.rs: kafka", "an estimate of time: a Java virtual machine starts slowly"),
    ("src/cli/claims/measured.rs: bridge", "the same, with two servers"),
    ("src/cli/shipped.rs: bridge", "a file of scenarios/"),
    ("src/engine/ready_watch.rs: kafka", "a scheme of addresses, and what its protocol says first"),
    ("src/engine/ready_watch.rs: nats", "a scheme of addresses"),
    ("src/engine/ready_watch.rs: redis", "a scheme of addresses, and what its protocol says first"),
    ("src/plan/address.rs: kafka", "a scheme of addresses"),
    ("src/plan/address.rs: nats", "a scheme of addresses"),
    ("src/system/nats/external.rs: jetstream", "a field of INFO"),
    ("src/system/nats/monitor.rs: jetstream", "a field of /varz"),
    ("src/system/nats/types.rs: jetstream", "a nats-server is two types: this is its own file"),
    ("src/system/networks.rs: bridge", "a program of iproute2"),
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
