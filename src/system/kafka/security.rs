//! Certificates, users and tokens of one launched Kafka: made for the trial, thrown away with it.
//! With them come those of intruders, whom the broker must not let in.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rand::RngExt;
use serde_json::{Map, Value, json};

use super::options::{BrokerOptions, BrokerTls, Mechanism};
use super::tokens::{AUDIENCE, Ends, ISSUER, TokenIssuer};
use crate::plan::Intruder;
use crate::system::certificates::Authority;

/// The user that msgbench logs in as, and one who may log in and has no right to anything.
const USER: &str = "msgbench";
const OUTSIDE: &str = "outside";
/// A token is good for a day: trials do not renew it.
const DAY: i64 = 24 * 3600;
const MODULES: &str = "org.apache.kafka.common.security";

/// What a launched Kafka and its clients need to know each other.
#[derive(Debug, Default)]
pub(super) struct Security {
    /// Of the brokers: what concerns the listener of clients.
    pub(super) properties: BTreeMap<String, String>,
    /// Further arguments of Java.
    pub(super) java: Vec<String>,
    /// Users that the storage is formatted with.
    pub(super) scram: Vec<String>,
    /// The options of the driver that let its clients in.
    pub(super) client: Map<String, Value>,
    /// Who must not get in.
    pub(super) intruders: Vec<Intruder>,
    /// Who the trial's clients are, where access lists are to give them rights.
    pub(super) principal: Option<String>,
}

impl Security {
    /// What `options` ask for, its files in `dir`; a certificate is made out to `names`.
    ///
    /// # Errors
    /// When a file cannot be written, or a key cannot be made.
    pub(super) fn make(options: &BrokerOptions, dir: &Path, names: &[String]) -> Result<Self, String> {
        let mut made = Self::default();
        if let Some(mechanism) = options.sasl {
            made.log_in(mechanism, dir)?;
            made.principal = Some(format!("User:{USER}"));
        }
        if options.tls != BrokerTls::None {
            let mutual = options.tls == BrokerTls::Mutual;
            made.certificates(mutual, dir, names).map_err(|e| format!("cannot make certificates: {e}"))?;
        }
        if options.acls {
            let all = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
            made.properties.insert("authorizer.class.name".into(), all.into());
            // Brokers and controllers have listeners without users of their own.
            made.properties.insert("super.users".into(), "User:ANONYMOUS".into());
            made.principal.get_or_insert_with(|| format!("User:CN={USER}"));
        } else {
            made.principal = None;
        }
        Ok(made)
    }

    fn set(&mut self, key: &str, value: impl Into<String>) {
        self.properties.insert(format!("listener.name.client.{key}"), value.into());
    }

    fn stranger(&mut self, name: &str, sasl: Option<Value>) {
        let client = sasl.map(|sasl| ("sasl".to_owned(), sasl)).into_iter().collect();
        self.intruders.push(Intruder { name: name.to_owned(), client, isolated: false });
    }

    /// Users with passwords, or with tokens.
    fn log_in(&mut self, mechanism: Mechanism, dir: &Path) -> Result<(), String> {
        let name = mechanism.name();
        self.set("sasl.enabled.mechanisms", name);
        self.stranger("without credentials", None);
        if mechanism == Mechanism::OauthBearer {
            return self.tokens(dir);
        }
        let users = [(USER, text(24)), (OUTSIDE, text(24))];
        let module = if mechanism.is_scram() {
            let credential = |(user, password): &(&str, String)| format!("{name}=[name={user},password={password}]");
            self.scram = users.iter().map(credential).collect();
            format!("{MODULES}.scram.ScramLoginModule required;")
        } else {
            let each = users.iter().map(|(user, password)| format!(" user_{user}=\"{password}\""));
            format!("{MODULES}.plain.PlainLoginModule required{};", each.collect::<String>())
        };
        self.set(&format!("{}.sasl.jaas.config", name.to_lowercase()), module);
        let [own, outside] =
            users.map(|(user, password)| json!({ "mechanism": name, "user": user, "password": password }));
        self.client.insert("sasl".into(), own);
        self.stranger("with a wrong password", Some(json!({ "mechanism": name, "user": USER, "password": text(24) })));
        self.stranger("as a user without rights", Some(outside));
        Ok(())
    }

    fn tokens(&mut self, dir: &Path) -> Result<(), String> {
        let (issuer, other) = (TokenIssuer::new()?, TokenIssuer::new()?);
        let keys = dir.join("issuer-keys.json");
        std::fs::write(&keys, issuer.keys()).map_err(|e| format!("cannot write {}: {e}", keys.display()))?;
        let url = format!("file://{}", keys.display());
        let class = format!("{MODULES}.oauthbearer.OAuthBearer");
        for (key, value) in [
            ("sasl.jaas.config", format!("{class}LoginModule required;")),
            ("sasl.server.callback.handler.class", format!("{class}ValidatorCallbackHandler")),
            ("sasl.oauthbearer.jwks.endpoint.url", url.clone()),
            ("sasl.oauthbearer.expected.issuer", ISSUER.to_owned()),
            ("sasl.oauthbearer.expected.audience", AUDIENCE.to_owned()),
        ] {
            self.set(&format!("oauthbearer.{key}"), value);
        }
        // Without it Kafka 4.1.1 verifies no signature: any token lets its bearer in. It is looked
        // for without the mechanism before its name.
        self.set("sasl.oauthbearer.jwt.validator.class", format!("{MODULES}.oauthbearer.BrokerJwtValidator"));
        // Kafka reads keys from where it is allowed to (since 4.0).
        self.java.push(format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={url}"));
        let login = |token: String| json!({ "mechanism": "OAUTHBEARER", "token": token });
        self.client.insert("sasl".into(), login(issuer.token(USER, Ends(DAY))?));
        self.stranger("with a token of another issuer", Some(login(other.token(USER, Ends(DAY))?)));
        self.stranger("with a token that has ended", Some(login(issuer.token(USER, Ends(-3600))?)));
        self.stranger("as a user without rights", Some(login(issuer.token(OUTSIDE, Ends(DAY))?)));
        Ok(())
    }

    /// A certificate of the brokers, and, where both sides show one, those of clients.
    fn certificates(&mut self, mutual: bool, dir: &Path, names: &[String]) -> io::Result<()> {
        let authority = Authority::new()?;
        let keep = |name: &str, pem: &str| -> io::Result<PathBuf> {
            let path = dir.join(name);
            std::fs::write(&path, pem).map(|()| path)
        };
        let ca = keep("ca.pem", authority.certificate())?;
        let (certificate, key) = authority.server(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let keystore = keep("broker.pem", &format!("{key}{certificate}{}", authority.certificate()))?;
        self.set("ssl.keystore.type", "PEM");
        self.set("ssl.keystore.location", keystore.display().to_string());
        let (mut own, known) = (json!({ "ca": ca }), json!({ "ca": ca }));
        if mutual {
            self.set("ssl.truststore.type", "PEM");
            self.set("ssl.truststore.location", ca.display().to_string());
            self.set("ssl.client.auth", "required");
            let client = |authority: &Authority, name: &str, file: &str| -> io::Result<Value> {
                let (certificate, key) = authority.client(name)?;
                let (certificate, key) =
                    (keep(&format!("{file}.pem"), &certificate)?, keep(&format!("{file}.key"), &key)?);
                Ok(json!({ "ca": ca, "certificate": certificate, "key": key }))
            };
            own = client(&authority, USER, "client")?;
            // Whoever is refused for another reason has a good certificate.
            let with = |it: &mut Intruder, tls: &Value| drop(it.client.insert("tls".into(), tls.clone()));
            self.intruders.iter_mut().for_each(|it| with(it, &own));
            let sasl = self.client.get("sasl").cloned();
            let foreign = client(&Authority::new()?, USER, "foreign")?;
            let mut all =
                vec![("without a certificate", known.clone()), ("with a certificate of another authority", foreign)];
            if sasl.is_none() {
                all.push(("with a certificate of somebody without rights", client(&authority, OUTSIDE, "outside")?));
            }
            for (name, tls) in all {
                self.stranger(name, sasl.clone());
                self.intruders.iter_mut().rev().take(1).for_each(|it| with(it, &tls));
            }
        } else {
            // They all know the server.
            self.intruders.iter_mut().for_each(|it| drop(it.client.insert("tls".into(), known.clone())));
        }
        self.client.insert("tls".into(), own);
        Ok(())
    }
}

/// A random id in the form Kafka wants: 16 bytes in URL-safe base64. It never begins with `-`,
/// which is an option.
pub(super) fn cluster_id() -> String {
    use base64::Engine;
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[0] &= 0x7f;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Random letters and digits.
fn text(length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(broker: Value) -> (tempfile::TempDir, Security) {
        let dir = tempfile::tempdir().unwrap();
        let options = BrokerOptions::read(json!({ "broker": broker }).as_object().unwrap()).unwrap();
        let made = Security::make(&options, dir.path(), &["localhost".to_owned()]).unwrap();
        (dir, made)
    }

    #[test]
    fn a_cluster_id_is_what_kafka_takes() {
        for _ in 0..200 {
            let id = cluster_id();
            assert_eq!(id.len(), 22);
            assert!(!id.starts_with('-'), "{id}");
        }
    }

    #[test]
    fn clients_are_given_what_lets_them_in_and_intruders_are_not() {
        let (_, none) = make(json!({}));
        assert!(none.client.is_empty() && none.intruders.is_empty() && none.properties.is_empty());
        for (broker, intruders) in [
            (json!({ "sasl": "PLAIN" }), 3),
            (json!({ "sasl": "SCRAM-SHA-512", "tls": true, "acls": true }), 3),
            (json!({ "sasl": "OAUTHBEARER" }), 4),
            (json!({ "sasl": "PLAIN", "tls": "mutual" }), 5),
            (json!({ "tls": "mutual", "acls": true }), 3),
            (json!({ "tls": true }), 0),
        ] {
            let (_dir, made) = make(broker.clone());
            assert_eq!(made.intruders.len(), intruders, "{broker}");
            for it in &made.intruders {
                assert_ne!(it.client, made.client, "{broker}: {}", it.name);
            }
            assert_eq!(made.principal.is_some(), broker["acls"] == true, "{broker}");
            assert!(
                made.properties.keys().all(|key| key.starts_with("listener.name.client.") || broker["acls"] == true)
            );
        }
    }

    #[test]
    fn files_are_where_the_options_say() {
        let (_dir, made) = make(json!({ "tls": "mutual", "sasl": "SCRAM-SHA-512" }));
        assert!(Path::new(made.client["tls"]["ca"].as_str().unwrap()).is_file());
        assert!(Path::new(made.client["tls"]["key"].as_str().unwrap()).is_file());
        let keystore = &made.properties["listener.name.client.ssl.keystore.location"];
        let pem = std::fs::read_to_string(keystore).unwrap();
        assert!(pem.contains("PRIVATE KEY") && pem.matches("BEGIN CERTIFICATE").count() == 2);
        let password = made.client["sasl"]["password"].as_str().unwrap();
        assert!(made.scram[0].contains(password) && made.scram.len() == 2);
    }
}
