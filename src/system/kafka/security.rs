//! Certificate and login of one launched Kafka: made for the trial, thrown away with it.

use std::path::{Path, PathBuf};

use rand::RngExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Map, Value, json};

use super::options::{BrokerOptions, SaslLogin};

/// The user that msgbench logs in as.
const USER: &str = "msgbench";

pub(super) struct Security {
    /// Key and certificate of the brokers, as PEM.
    pub(super) keystore: Option<PathBuf>,
    ca: Option<PathBuf>,
    pub(super) login: Option<SaslLogin>,
}

impl Security {
    /// What `options` ask for, its files in `dir`.
    pub(super) fn make(options: &BrokerOptions, dir: &Path) -> Result<Self, String> {
        let mut made = Self { keystore: None, ca: None, login: None };
        if options.tls {
            let (keystore, ca) = certificate(dir).map_err(|e| format!("cannot make a certificate: {e}"))?;
            (made.keystore, made.ca) = (Some(keystore), Some(ca));
        }
        if options.sasl.is_some() {
            made.login = Some(SaslLogin { user: USER.into(), password: text(24) });
        }
        Ok(made)
    }

    /// The options of the driver that let its clients in.
    pub(super) fn client(&self, options: &BrokerOptions) -> Map<String, Value> {
        let mut client = Map::new();
        if let Some(ca) = &self.ca {
            client.insert("tls".into(), json!({ "ca": ca }));
        }
        if let (Some(login), Some(mechanism)) = (&self.login, options.sasl) {
            let (user, password) = (&login.user, &login.password);
            client.insert("sasl".into(), json!({ "mechanism": mechanism.name(), "user": user, "password": password }));
        }
        client
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

/// A certificate for 127.0.0.1 and the authority that signed it.
fn certificate(dir: &Path) -> Result<(PathBuf, PathBuf), Box<dyn std::error::Error>> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "msgbench trial authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    let server = server.signed_by(&key, &authority)?;
    let (keystore, ca) = (dir.join("broker.pem"), dir.join("ca.pem"));
    std::fs::write(&keystore, format!("{}{}{}", key.serialize_pem(), server.pem(), authority.pem()))?;
    std::fs::write(&ca, authority.pem())?;
    Ok((keystore, ca))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_what_kafka_takes() {
        for _ in 0..200 {
            let id = cluster_id();
            assert_eq!(id.len(), 22);
            assert!(!id.starts_with('-'), "{id}");
        }
    }

    #[test]
    fn clients_are_given_what_lets_them_in() {
        let dir = tempfile::tempdir().unwrap();
        let options = json!({ "broker": { "tls": true, "sasl": "SCRAM-SHA-512" } });
        let options = BrokerOptions::read(options.as_object().unwrap()).unwrap();
        let made = Security::make(&options, dir.path()).unwrap();
        let client = made.client(&options);
        assert_eq!(client["sasl"]["password"], made.login.as_ref().unwrap().password.as_str());
        assert_eq!(client["sasl"]["mechanism"], "SCRAM-SHA-512");
        assert!(Path::new(client["tls"]["ca"].as_str().unwrap()).is_file());
        let pem = std::fs::read_to_string(made.keystore.unwrap()).unwrap();
        assert!(pem.contains("PRIVATE KEY") && pem.matches("BEGIN CERTIFICATE").count() == 2);
        let none = Security::make(&BrokerOptions::default(), dir.path()).unwrap();
        assert!(none.client(&BrokerOptions::default()).is_empty());
    }
}
