//! Domains of JetStream: a leaf node has streams of its own beside those of its hub, and a client
//! at either says in the subjects of its requests which it means.

use super::options::JetstreamOptions;

/// What the subjects of requests begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRoot {
    /// Ends in a dot.
    prefix: String,
    domain: Option<String>,
}

impl ApiRoot {
    /// That of a domain; of the server where a client is, where none is named.
    pub fn of(domain: Option<&str>) -> Self {
        let prefix = domain.map_or_else(|| "$JS.API.".to_owned(), |domain| format!("$JS.{domain}.API."));
        Self { prefix, domain: domain.map(str::to_owned) }
    }

    /// The subject of a request.
    pub fn subject(&self, verb: &str) -> String {
        format!("{}{verb}", self.prefix)
    }

    /// The subject under which a key is put into a bucket that has it under `subject`. Leaf nodes
    /// do not pass `$KV` on; a domain takes it behind its prefix.
    pub fn put(&self, subject: String) -> String {
        if self.domain.is_some() { self.subject(&subject) } else { subject }
    }

    /// What it means that nobody answers, and what to do.
    pub fn nobody(&self) -> (String, &'static str) {
        match &self.domain {
            None => (
                "no responders: JetStream is not enabled".to_owned(),
                "switch JetStream on in the server's configuration, or let msgbench launch the server",
            ),
            Some(domain) => (
                format!("no responders: no JetStream of the domain `{domain}` is reached"),
                "correct the option `domain`; a launched system has `hub` and those of its leaf nodes, `leaf-1`...",
            ),
        }
    }
}

impl JetstreamOptions {
    /// Whether the domain can be one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_domain(&self) -> Result<(), String> {
        let plain = |domain: &str| {
            !domain.is_empty() && domain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        match &self.domain {
            Some(domain) if !plain(domain) => {
                Err(format!("option `domain`: {domain:?} is not a name of letters, digits, - and _"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_go_to_the_domain_that_is_named() {
        let (own, hub) = (ApiRoot::of(None), ApiRoot::of(Some("hub")));
        assert_eq!(own.subject("INFO"), "$JS.API.INFO");
        assert_eq!(hub.subject("INFO"), "$JS.hub.API.INFO");
        assert_eq!(own.put("$KV.b.1".into()), "$KV.b.1");
        assert_eq!(hub.put("$KV.b.1".into()), "$JS.hub.API.$KV.b.1");
        assert!(own.nobody().0.contains("not enabled") && hub.nobody().0.contains("`hub`"));
    }

    #[test]
    fn a_domain_is_one_word() {
        let read = |domain: &str| JetstreamOptions::from_options(json!({ "domain": domain }).as_object().unwrap());
        assert_eq!(read("leaf-1").unwrap().domain.as_deref(), Some("leaf-1"));
        for wrong in ["", "a.b", "*", "a b"] {
            let told = read(wrong).unwrap_err();
            assert_eq!(told, format!("option `domain`: {wrong:?} is not a name of letters, digits, - and _"));
        }
    }
}
