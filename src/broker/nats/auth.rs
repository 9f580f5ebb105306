//! Who may connect: a token, a name and password, a signature over the nonce of INFO, or a name in
//! a certificate.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use nkeys::KeyPair;

use super::config::{Auth, Config};
use super::info::Connect;
use super::users::{Credential, User};
use crate::broker::shared::certificate::CertificateNames;
use crate::broker::shared::error::BrokerError;

/// Refuses credentials that could never be presented.
pub(super) fn check(config: &Config) -> Result<(), BrokerError> {
    let users = match &config.auth {
        Auth::Token(token) if token.is_empty() => {
            return Err(BrokerError::Setting {
                setting: "the token",
                value: "empty".into(),
                remedy: "give one, or no --token at all",
            });
        }
        Auth::None | Auth::Token(_) => return Ok(()),
        Auth::Users(users) => users,
    };
    for user in users {
        match &user.credential {
            Credential::Password { .. } => {}
            Credential::Nkey(key) => {
                let bad = |reason: String| BrokerError::Nkey { key: key.clone(), reason };
                if !key.starts_with('U') {
                    return Err(bad("it is not a user's key".into()));
                }
                KeyPair::from_public_key(key).map_err(|e| bad(e.to_string()))?;
            }
            Credential::Certificate(name) if config.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) => {
                return Err(BrokerError::Setting {
                    setting: "the certificate of a user",
                    value: format!("`{name}`, and clients are asked for none"),
                    remedy: "give the authorities that sign clients' certificates with --tls-ca",
                });
            }
            Credential::Certificate(_) => {}
        }
    }
    Ok(())
}

/// Which user CONNECT makes of a connection whose INFO carried `nonce`: `None` when it is turned
/// away, `Some(None)` when there are no users.
pub(super) fn admit<'a>(
    auth: &'a Auth,
    said: &Connect,
    nonce: &str,
    certificate: Option<&CertificateNames>,
) -> Option<Option<&'a User>> {
    let users = match auth {
        Auth::None => return Some(None),
        Auth::Token(token) => {
            return said.auth_token.as_deref().is_some_and(|given| same(given, token)).then_some(None);
        }
        Auth::Users(users) => users,
    };
    let by_words = |user: &&User| match &user.credential {
        Credential::Password { name, password } => {
            said.user.as_deref().is_some_and(|given| same(given, name))
                && said.pass.as_deref().is_some_and(|given| same(given, password))
        }
        Credential::Nkey(key) => said.nkey.as_deref() == Some(key) && signed(key, nonce, said.sig.as_deref()),
        Credential::Certificate(_) => false,
    };
    let by_certificate = |user: &&User| match (&user.credential, certificate) {
        (Credential::Certificate(name), Some(certificate)) => certificate.contain(name),
        _ => false,
    };
    let given = [&said.user, &said.pass, &said.nkey, &said.auth_token];
    let silent = given.iter().all(|word| word.as_deref().is_none_or(str::is_empty));
    let found = users.iter().find(by_words).or_else(|| users.iter().find(by_certificate));
    found.or_else(|| users.iter().find(|user| silent && user.anonymous)).map(Some)
}

fn signed(key: &str, nonce: &str, signature: Option<&str>) -> bool {
    let Some(text) = signature.map(|s| s.trim_end_matches('=')) else { return false };
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)) else { return false };
    KeyPair::from_public_key(key).is_ok_and(|pair| pair.verify(nonce.as_bytes(), &bytes).is_ok())
}

/// Compares without telling by its duration where the texts differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> Connect {
        serde_json::from_str(json).unwrap()
    }

    fn admits(auth: &Auth, said: &Connect, nonce: &str) -> bool {
        admit(auth, said, nonce, None).is_some()
    }

    fn checked(auth: Auth) -> Result<(), BrokerError> {
        check(&Config { auth, ..Config::default() })
    }

    #[test]
    fn tokens_and_passwords() {
        let token = Auth::Token("s3cr3t".into());
        assert!(admits(&token, &said(r#"{"auth_token":"s3cr3t"}"#), ""));
        assert!(!admits(&token, &said(r#"{"auth_token":"s3cr3"}"#), ""));
        assert!(!admits(&token, &said("{}"), ""));
        let users = Auth::Users(vec![User::password("derek", "s3cr3t"), User::password("ann", "x")]);
        assert!(admits(&users, &said(r#"{"user":"ann","pass":"x"}"#), ""));
        assert!(!admits(&users, &said(r#"{"user":"ann","pass":"s3cr3t"}"#), ""));
        assert!(!admits(&users, &said(r#"{"user":"ann"}"#), ""));
        assert!(admits(&Auth::None, &said("{}"), ""));
    }

    #[test]
    fn an_nkey_user_must_sign_this_nonce() {
        let pair = KeyPair::new_user();
        let users = Auth::Users(vec![User::nkey(pair.public_key())]);
        checked(users.clone()).unwrap();
        let sig = URL_SAFE_NO_PAD.encode(pair.sign(b"nonce-1").unwrap());
        let line = said(&format!(r#"{{"nkey":"{}","sig":"{sig}"}}"#, pair.public_key()));
        assert!(admits(&users, &line, "nonce-1"));
        assert!(!admits(&users, &line, "nonce-2"));
        let other = KeyPair::new_user();
        let line = said(&format!(r#"{{"nkey":"{}","sig":"{sig}"}}"#, other.public_key()));
        assert!(!admits(&users, &line, "nonce-1"));
    }

    #[test]
    fn whoever_presents_nothing_is_the_anonymous_user() {
        let auth =
            Auth::Users(vec![User::password("ann", "x"), User { anonymous: true, ..User::password("guest", "y") }]);
        let name = |json: &str| admit(&auth, &said(json), "", None).map(|user| user.unwrap().name().to_owned());
        assert_eq!(name("{}").as_deref(), Some("guest"));
        assert_eq!(name(r#"{"user":"ann","pass":"x"}"#).as_deref(), Some("ann"));
        assert_eq!(name(r#"{"user":"ann","pass":"z"}"#), None);
    }

    #[test]
    fn a_certificate_is_asked_for_where_it_makes_a_user() {
        let words =
            checked(Auth::Users(vec![Credential::Certificate("CN=ann".into()).into()])).unwrap_err().to_string();
        assert!(words.contains("`CN=ann`") && words.contains("--tls-ca"), "{words}");
    }

    #[test]
    fn unusable_credentials_are_refused_at_the_start() {
        assert!(checked(Auth::Token(String::new())).is_err());
        assert!(checked(Auth::Users(vec![User::nkey("SUAX")])).is_err());
        assert!(checked(Auth::Users(vec![User::nkey("UABC")])).is_err());
    }
}
