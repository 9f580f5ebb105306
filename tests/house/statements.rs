//! Finds code that judges by what a sentence of ours says: `check.observed.contains("...")`,
//! `role == "slow"`.
//!
//! Facts are types until `report/words` makes sentences of them. What is seen here is a string
//! method, a comparison with a string, or a `matches!` with one, on a field or variable that has
//! the name of a statement. A sentence that was put under another name first is not seen: that is
//! what the types are for.

use std::path::PathBuf;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::imports::{Source, is_test};

/// The names that statements have in records, comparisons and facts.
const STATEMENTS: [&str; 21] = [
    "observed",
    "threshold",
    "message",
    "reason",
    "error",
    "sentence",
    "words",
    "text",
    "remedy",
    "item",
    "role",
    "promise",
    "promised",
    "promises",
    "guarantees",
    "delivery",
    "order",
    "acknowledgement",
    "durability",
    "why",
    "said",
];

/// What is asked of a text to judge by it.
const QUESTIONS: [&str; 14] = [
    "starts_with",
    "ends_with",
    "contains",
    "strip_prefix",
    "strip_suffix",
    "split",
    "split_once",
    "rsplit",
    "split_whitespace",
    "find",
    "rfind",
    "parse",
    "matches",
    "eq_ignore_ascii_case",
];

/// Where a source judges by a statement: its file, its line, and what is asked.
pub fn judged(source: &Source) -> Vec<(PathBuf, usize, String)> {
    let mut found = Vec::new();
    // What does not parse has failed where imports are read.
    if let (false, Ok(tokens)) = (source.test, TokenStream::from_str(&source.text)) {
        walk(&tokens.into_iter().collect::<Vec<_>>(), source, &mut found);
    }
    found
}

fn walk(tokens: &[TokenTree], source: &Source, found: &mut Vec<(PathBuf, usize, String)>) {
    let mut behind_test = false;
    for (i, token) in tokens.iter().enumerate() {
        let mut add = |asked: String| found.push((source.path.clone(), token.span().start().line, asked));
        match token {
            TokenTree::Group(group) => {
                let attribute = is_punct(tokens.get(i.wrapping_sub(1)), '#');
                if attribute {
                    behind_test |= is_test(&group.stream().to_string());
                } else if !behind_test {
                    walk(&group.stream().into_iter().collect::<Vec<_>>(), source, found);
                }
                if !attribute && group.delimiter() == Delimiter::Brace {
                    behind_test = false;
                }
            }
            TokenTree::Punct(p) if p.as_char() == ';' => behind_test = false,
            _ if behind_test => {}
            TokenTree::Ident(name) if name == "matches" && is_punct(tokens.get(i + 1), '!') => {
                let Some(TokenTree::Group(group)) = tokens.get(i + 2) else { continue };
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                let comma = inside.iter().position(|t| is_punct(Some(t), ',')).unwrap_or(0);
                if let (Some(of), true) = (receiver(&inside, comma), inside[comma..].iter().any(is_string)) {
                    add(format!("matches!({of})"));
                }
            }
            TokenTree::Ident(name) if QUESTIONS.contains(&name.to_string().as_str()) => {
                let of = receiver(tokens, i.wrapping_sub(1)).filter(|_| is_punct(tokens.get(i.wrapping_sub(1)), '.'));
                let asked = matches!(tokens.get(i + 1), Some(TokenTree::Group(g)) if !only_characters(g.stream()))
                    || is_punct(tokens.get(i + 1), ':');
                if let (Some(of), true) = (of, asked) {
                    add(format!("{of}.{name}"));
                }
            }
            // `==` or `!=` before a string.
            TokenTree::Literal(_) if is_string(token) && is_punct(tokens.get(i.wrapping_sub(1)), '=') => {
                let compared = i >= 2 && (is_punct(tokens.get(i - 2), '=') || is_punct(tokens.get(i - 2), '!'));
                if let Some(of) = receiver(tokens, i.wrapping_sub(2)).filter(|_| compared) {
                    add(format!("{of} =="));
                }
            }
            _ => {}
        }
    }
}

/// The statement that the expression before `end` is about.
fn receiver(tokens: &[TokenTree], end: usize) -> Option<String> {
    let before = tokens.get(..end)?.iter().rev();
    let of = |token: &&TokenTree| match token {
        TokenTree::Ident(word) => {
            !["match", "if", "return", "in", "else", "let", "mut"].contains(&word.to_string().as_str())
        }
        TokenTree::Punct(p) => ['.', '?', '*'].contains(&p.as_char()),
        TokenTree::Group(g) => g.delimiter() != Delimiter::Brace,
        TokenTree::Literal(_) => false,
    };
    before.take_while(of).find_map(|token| match token {
        TokenTree::Ident(word) => STATEMENTS.into_iter().find(|s| word == s).map(String::from),
        _ => None,
    })
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == sign)
}

fn is_string(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Literal(l) if l.to_string().starts_with(['"', 'r']))
}

/// Whether an argument is of characters alone: `'.'`, `['.', '!']`. Punctuation says nothing of
/// what a sentence says.
fn only_characters(argument: TokenStream) -> bool {
    let mut tokens = argument.into_iter().peekable();
    tokens.peek().is_some()
        && tokens.all(|token| match token {
            TokenTree::Literal(l) => l.to_string().starts_with('\''),
            TokenTree::Group(g) => only_characters(g.stream()),
            TokenTree::Punct(p) => p.as_char() == ',',
            TokenTree::Ident(_) => false,
        })
}
