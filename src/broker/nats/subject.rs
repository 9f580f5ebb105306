//! What a subject may look like: tokens joined by dots, `*` for one token, `>` for all that follow.

/// Whether a subject may be published to under `pedantic`: no empty token and no wildcard token.
pub fn valid_literal(subject: &[u8]) -> bool {
    subject.split(|b| *b == b'.').all(|token| !token.is_empty() && token != b"*" && token != b">")
}

/// Whether a pattern reaches a subject, token by token. Wildcards of the subject are letters like
/// any other, so a pattern with a wildcard reaches the same wildcard.
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut tokens = subject.split(|b| *b == b'.');
    for wanted in pattern.split(|b| *b == b'.') {
        match tokens.next() {
            Some(_) if wanted == b">" => return true,
            Some(token) if wanted == token => {}
            // `*` stands for one token, and `>` for any number of them.
            Some(token) if wanted == b"*" && token != b">" => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_reach_what_they_say() {
        for (pattern, subject) in
            [("a", "a"), ("a.*", "a.b"), ("a.*", "a.*"), (">", "a.b"), ("a.>", "a.>"), ("*.b", "a.b")]
        {
            assert!(matches(pattern.as_bytes(), subject.as_bytes()), "{pattern} {subject}");
        }
        for (pattern, subject) in [("a", "b"), ("a.*", "a"), ("a.*", "a.>"), ("a.>", "a"), ("a.b", "a.*"), ("*", "a.b")]
        {
            assert!(!matches(pattern.as_bytes(), subject.as_bytes()), "{pattern} {subject}");
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
