//! From PEM files to a TLS acceptor.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, crypto::ring};

use super::TlsFiles;
use super::certificate::CertificateNames;
use super::error::BrokerError;

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let fault = |reason: String| BrokerError::TlsFile { what, path: path.to_owned(), reason };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|e| fault(e.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| fault(e.to_string()))?;
    if found.is_empty() { Err(fault("it holds no certificate".into())) } else { Ok(found) }
}

/// Builds the acceptor, or says which file is wrong.
pub(in crate::broker) fn acceptor(tls: &TlsFiles) -> Result<TlsAcceptor, BrokerError> {
    let chain = certificates("the TLS certificate", &tls.cert)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|e| BrokerError::TlsFile {
        what: "the TLS key",
        path: tls.key.clone(),
        reason: e.to_string(),
    })?;
    let unusable = |e: String| BrokerError::Tls(e);
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(e.to_string()))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("the TLS client authorities", path)? {
                roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| unusable(e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|e| unusable(e.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What is known of a connection's encryption.
#[derive(Debug)]
pub(in crate::broker) struct Secured {
    pub version: &'static str,
    pub cipher: String,
    /// The names in the client's certificate, if it has shown one.
    pub certificate: Option<CertificateNames>,
}

/// What a completed handshake has settled.
pub(in crate::broker) fn seen(session: &ServerConnection) -> Secured {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "",
    };
    // The standard's name of a suite of TLS 1.3 has no 13 in it.
    let name = |suite: tokio_rustls::rustls::SupportedCipherSuite| format!("{:?}", suite.suite());
    let cipher = session.negotiated_cipher_suite().map(name).unwrap_or_default().replace("TLS13_", "TLS_");
    let certificate =
        session.peer_certificates().and_then(|chain| chain.first()).map(|first| CertificateNames::read(first));
    Secured { version, cipher, certificate }
}
