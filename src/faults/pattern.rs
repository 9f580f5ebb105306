//! Subject patterns: tokens joined by dots, `*` for one token, `>` for all that follow.

/// Whether a subject may be subscribed to: no empty token, and `>` only as the last token. `*` and
/// `>` inside a longer token are ordinary letters, as the real server has it.
pub fn valid(pattern: &[u8]) -> bool {
    let mut closed = false;
    pattern.split(|b| *b == b'.').all(|token| {
        let good = !closed && !token.is_empty();
        closed = token == b">";
        good
    })
}

/// Whether a pattern with `*` and `>` matches a subject.
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut tokens = subject.split(|b| *b == b'.');
    for wanted in pattern.split(|b| *b == b'.') {
        match (wanted, tokens.next()) {
            (b">", Some(_)) => return true,
            (_, None) => return false,
            (b"*", Some(_)) => {}
            (wanted, Some(token)) if wanted != token => return false,
            _ => {}
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_judged_as_nats_server_judges_subscriptions() {
        for good in ["a", "a.b", ">", "*", "foo.*", "f*o", "foo>", "foo.bar*", "a.*.>", "*.*", "\u{e9}"] {
            assert!(valid(good.as_bytes()), "{good}");
        }
        for bad in ["", "foo.", ".foo", "foo..bar", "foo.>.bar", ".", "..", ">.a"] {
            assert!(!valid(bad.as_bytes()), "{bad}");
        }
    }
}
