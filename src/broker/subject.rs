//! What a subject may look like: tokens joined by dots, `*` for one token, `>` for all that follow.

/// Whether a subject may be subscribed to: no empty token, and `>` only as the last token. `*` and `>` inside a longer
/// token are ordinary letters, as the real server has it.
pub fn valid_subscription(subject: &[u8]) -> bool {
    let mut closed = false;
    subject.split(|b| *b == b'.').all(|token| {
        let good = !closed && !token.is_empty();
        closed = token == b">";
        good
    })
}

/// Whether a subject may be published to under `pedantic`: no empty token and no wildcard token.
pub fn valid_literal(subject: &[u8]) -> bool {
    subject.split(|b| *b == b'.').all(|token| !token.is_empty() && token != b"*" && token != b">")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_judged_as_the_real_server_judges_them() {
        for good in ["a", "a.b", ">", "*", "foo.*", "f*o", "foo>", "foo.bar*", "a.*.>", "*.*", "\u{e9}"] {
            assert!(valid_subscription(good.as_bytes()), "{good}");
        }
        for bad in ["", "foo.", ".foo", "foo..bar", "foo.>.bar", ".", "..", ">.a"] {
            assert!(!valid_subscription(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn literals_have_no_wildcard_token() {
        for good in ["a", "a.b", "f*o", "foo>"] {
            assert!(valid_literal(good.as_bytes()), "{good}");
        }
        for bad in ["", "foo.*", "foo.>", "foo.", "foo..bar", ">"] {
            assert!(!valid_literal(bad.as_bytes()), "{bad}");
        }
    }
}
