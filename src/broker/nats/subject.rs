//! What a subject may look like: tokens joined by dots, `*` for one token, `>` for all that follow.

/// Whether a subject may be published to under `pedantic`: no empty token and no wildcard token.
pub fn valid_literal(subject: &[u8]) -> bool {
    subject.split(|b| *b == b'.').all(|token| !token.is_empty() && token != b"*" && token != b">")
}

#[cfg(test)]
mod tests {
    use super::*;

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
