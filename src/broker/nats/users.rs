//! Users who may connect, what each may publish and subscribe to, and the file they are read from.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::subject::matches;
use crate::broker::shared::error::BrokerError;
use crate::faults::pattern::valid as valid_subscription;

/// One user who may connect.
#[derive(Debug, Clone)]
pub struct User {
    /// What the client must present.
    pub credential: Credential,
    /// What it may publish and subscribe to; `None` is everything.
    pub permissions: Option<Arc<Permissions>>,
    /// Whether clients that present nothing become this user.
    pub anonymous: bool,
}

/// What a client presents to be a user.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A name and a password, compared as they are.
    Password { name: String, password: String },
    /// A public NKey (`U...`); the client signs the nonce of INFO with its seed.
    Nkey(String),
    /// A name in the client's certificate: an e-mail address, DNS name or URI of its alternative
    /// names, or its subject as `CN=ann,O=Acme`, in any order.
    Certificate(String),
}

impl User {
    /// A user with a password, who may do everything.
    pub fn password(name: impl Into<String>, password: impl Into<String>) -> Self {
        Credential::Password { name: name.into(), password: password.into() }.into()
    }

    /// A user with an NKey, who may do everything.
    pub fn nkey(key: impl Into<String>) -> Self {
        Credential::Nkey(key.into()).into()
    }

    /// How the user is called: its name, its NKey or the name in its certificate.
    pub fn name(&self) -> &str {
        match &self.credential {
            Credential::Password { name, .. } | Credential::Certificate(name) | Credential::Nkey(name) => name,
        }
    }
}

impl From<Credential> for User {
    fn from(credential: Credential) -> Self {
        Self { credential, permissions: None, anonymous: false }
    }
}

/// What a user may publish and subscribe to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects it may publish to.
    pub publish: Subjects,
    /// Subjects it may subscribe to, each with a queue group after a space where only that group is
    /// meant.
    pub subscribe: Subjects,
}

/// Which subjects: those allowed (`None` is all) less those denied. Wildcards may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subjects {
    /// Allowed; `None` is all.
    #[serde(default)]
    pub allow: Option<Vec<String>>,
    /// Denied, even if allowed.
    #[serde(default)]
    pub deny: Vec<String>,
}

fn split(entry: &str) -> (&[u8], Option<&[u8]>) {
    match entry.split_once(' ') {
        Some((subject, queue)) => (subject.as_bytes(), Some(queue.as_bytes())),
        None => (entry.as_bytes(), None),
    }
}

/// What a list says of a subscription: whether an entry without queue group matches, and, if
/// entries with one match, whether the subscription's group is among them. nats-server's rule.
fn listed(list: &[String], subject: &[u8], queue: Option<&[u8]>) -> bool {
    let mut plain = false;
    let mut group = None;
    for (pattern, wanted) in list.iter().map(|entry| split(entry)) {
        if !matches(pattern, subject) {
            continue;
        }
        match (wanted, queue) {
            (None, _) => plain = true,
            (Some(wanted), Some(queue)) => *group.get_or_insert(false) |= wanted == queue || matches(wanted, queue),
            (Some(_), None) => {}
        }
    }
    group.unwrap_or(plain)
}

impl Permissions {
    /// Whether the user may publish to a subject.
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        let any = |list: &[String]| list.iter().any(|pattern| matches(pattern.as_bytes(), subject));
        self.publish.allow.as_deref().is_none_or(any) && !any(&self.publish.deny)
    }

    /// Whether the user may subscribe to a subject, as a member of a queue group if one is given.
    pub fn may_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let Subjects { allow, deny } = &self.subscribe;
        allow.as_deref().is_none_or(|list| listed(list, subject, queue)) && !listed(deny, subject, queue)
    }

    /// Whether anything is kept from the user that a wider subscription of its own would reach.
    pub(super) fn withholds_any(&self) -> bool {
        !self.subscribe.deny.is_empty()
    }

    /// Whether a message on this subject is kept from the user, whatever it has subscribed to.
    pub(super) fn withholds(&self, subject: &[u8]) -> bool {
        self.subscribe.deny.iter().map(|entry| split(entry)).any(|(p, queue)| queue.is_none() && matches(p, subject))
    }

    fn check(&self, name: &str) -> Result<(), String> {
        let lists = [
            ("publish.allow", self.publish.allow.as_deref().unwrap_or_default(), false),
            ("publish.deny", &self.publish.deny, false),
            ("subscribe.allow", self.subscribe.allow.as_deref().unwrap_or_default(), true),
            ("subscribe.deny", &self.subscribe.deny, true),
        ];
        for (key, list, queues) in lists {
            for entry in list {
                let (subject, queue) = split(entry);
                let plain = queue.is_none_or(|q| queues && !q.is_empty() && !q.contains(&b' '));
                if !plain || !valid_subscription(subject) || subject.iter().any(u8::is_ascii_whitespace) {
                    let form = if queues { "a subject, or a subject and a queue group" } else { "a subject" };
                    return Err(format!("`{entry}` in {key} of {name} is not {form}; write such as \"orders.>\""));
                }
            }
        }
        Ok(())
    }
}

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    #[serde(default)]
    anonymous: Option<String>,
    #[serde(default)]
    user: Vec<UserEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    name: Option<String>,
    password: Option<String>,
    nkey: Option<String>,
    certificate: Option<String>,
    publish: Option<Subjects>,
    subscribe: Option<Subjects>,
}

impl UserEntry {
    fn user(self) -> Result<User, String> {
        let credential = match (self.name, self.password, self.nkey, self.certificate) {
            (Some(name), Some(password), None, None) => Credential::Password { name, password },
            (None, None, Some(key), None) => Credential::Nkey(key),
            (None, None, None, Some(name)) if !name.is_empty() => Credential::Certificate(name),
            (name, ..) => {
                let which = name.map_or_else(String::new, |name| format!(" `{name}`"));
                return Err(format!("user{which} needs a name and a password, or an nkey, or a certificate"));
            }
        };
        let mut user = User::from(credential);
        if self.publish.is_some() || self.subscribe.is_some() {
            let permissions = Permissions {
                publish: self.publish.unwrap_or_default(),
                subscribe: self.subscribe.unwrap_or_default(),
            };
            permissions.check(user.name())?;
            user.permissions = Some(Arc::new(permissions));
        }
        Ok(user)
    }
}

/// Reads users from a TOML file.
///
/// # Errors
/// When it cannot be read, is not TOML, or a user in it makes no sense; the words name the place.
pub fn read(path: &Path) -> Result<Vec<User>, BrokerError> {
    let fault = |at: String, reason: String| BrokerError::Users { at, reason };
    let file = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| fault(file(), e.to_string()))?;
    parse(&text).map_err(|(place, reason)| match place {
        Some((line, column)) => fault(format!("{}:{line}:{column}", path.display()), reason),
        None => fault(file(), reason),
    })
}

type UserPosition = Option<(usize, usize)>;

fn parse(text: &str) -> Result<Vec<User>, (UserPosition, String)> {
    let file: UsersFile = toml::from_str(text).map_err(|e| {
        let place = e.span().map(|span| {
            let before = text.get(..span.start).unwrap_or_default();
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            (before.matches('\n').count() + 1, column)
        });
        (place, e.message().to_owned())
    })?;
    let mut users = Vec::with_capacity(file.user.len());
    for entry in file.user {
        let user = entry.user().map_err(|reason| (None, reason))?;
        if users.iter().any(|other: &User| other.name() == user.name()) {
            return Err((None, format!("`{}` is there twice", user.name())));
        }
        users.push(user);
    }
    if users.is_empty() {
        return Err((None, "it holds no user; write [[user]], name and password".into()));
    }
    if let Some(name) = file.anonymous {
        let Some(user) = users.iter_mut().find(|user| user.name() == name) else {
            return Err((None, format!("anonymous is `{name}`, and there is no such user")));
        };
        user.anonymous = true;
    }
    Ok(users)
}

/// What the server says when it refuses a message.
pub(super) fn publish_violation(subject: &[u8]) -> String {
    format!("-ERR 'Permissions Violation for Publish to {}'\r\n", quoted(subject))
}

/// What the server says when it refuses a subscription.
pub(super) fn subscribe_violation(subject: &[u8], queue: Option<&[u8]>) -> String {
    let group = queue.map_or_else(String::new, |queue| format!(" using queue {}", quoted(queue)));
    format!("-ERR 'Permissions Violation for Subscription to {}{group}'\r\n", quoted(subject))
}

/// In double quotes, as nats-server writes it: quotes, backslashes and what cannot be printed are
/// escaped.
fn quoted(text: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::from("\"");
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Writing to a string does not fail.
            let _ = match c {
                '"' | '\\' => write!(out, "\\{c}"),
                c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
                c => write!(out, "{c}"),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
