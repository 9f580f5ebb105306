//! The names in a client's certificate, which may stand for a user.
//!
//! Only what is needed is read out of the DER encoding (X.509, RFC 5280); the signature has been
//! checked by then. Whatever does not have the expected form ends the reading: fewer names are
//! found, never wrong ones.

use std::collections::BTreeSet;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::broker) struct CertificateNames {
    /// Attributes of the subject, such as `CN=ann`.
    subject: Vec<String>,
    /// E-mail addresses, DNS names and URIs.
    alternatives: Vec<String>,
}

impl CertificateNames {
    /// Reads the names out of a certificate.
    pub(in crate::broker) fn read(der: &[u8]) -> Self {
        let mut names = Self::default();
        // Not the expected form: what was found so far is all there is.
        let _ = names.fill(der);
        names
    }

    fn fill(&mut self, der: &[u8]) -> Option<()> {
        let certificate = Der(der).expect(SEQUENCE)?;
        let mut fields = Der(Der(certificate).expect(SEQUENCE)?);
        // The version is there in every certificate with extensions.
        let (mut tag, _) = fields.next()?;
        if tag == context(0) {
            (tag, _) = fields.next()?;
        }
        if tag != INTEGER {
            return None;
        }
        for _ in ["signature", "issuer", "validity"] {
            fields.expect(SEQUENCE)?;
        }
        self.subject = attributes(fields.expect(SEQUENCE)?)?;
        fields.expect(SEQUENCE)?;
        while let Some((tag, value)) = fields.next() {
            if tag == context(3) {
                self.extensions(Der(value).expect(SEQUENCE)?)?;
            }
        }
        Some(())
    }

    fn extensions(&mut self, list: &[u8]) -> Option<()> {
        let mut list = Der(list);
        while !list.0.is_empty() {
            let mut extension = Der(list.expect(SEQUENCE)?);
            let id = extension.expect(OBJECT_ID)?;
            let (mut tag, mut value) = extension.next()?;
            if tag == BOOLEAN {
                (tag, value) = extension.next()?;
            }
            if id != ALTERNATIVE_NAMES || tag != OCTETS {
                continue;
            }
            let mut names = Der(Der(value).expect(SEQUENCE)?);
            while let Some((tag, value)) = names.next() {
                // rfc822Name, dNSName and uniformResourceIdentifier.
                if [0x81, 0x82, 0x86].contains(&tag) {
                    self.alternatives.push(std::str::from_utf8(value).ok()?.to_owned());
                }
            }
        }
        Some(())
    }

    /// Whether this name stands in the certificate: among the alternative names, or as its subject,
    /// whose attributes may come in any order.
    pub(in crate::broker) fn contain(&self, name: &str) -> bool {
        if self.alternatives.iter().any(|alternative| alternative == name) {
            return true;
        }
        let wanted: BTreeSet<&str> = name.split(',').map(str::trim).collect();
        !self.subject.is_empty() && wanted == self.subject.iter().map(String::as_str).collect()
    }
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `2.5.29.17`.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

const fn context(n: u8) -> u8 {
    0xa0 | n
}

/// What is left to read of a DER encoding.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut len = usize::from(first);
        if first & 0x80 != 0 {
            let digits = usize::from(first & 0x7f);
            if digits == 0 || digits > 4 {
                return None;
            }
            let (bytes, after) = rest.split_at_checked(digits)?;
            len = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            rest = after;
        }
        let (contents, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, contents))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, contents)| contents)
    }
}

/// The attributes of a distinguished name, as RFC 2253 writes them.
fn attributes(name: &[u8]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut sets = Der(name);
    while !sets.0.is_empty() {
        let mut set = Der(sets.expect(SET)?);
        while !set.0.is_empty() {
            let mut attribute = Der(set.expect(SEQUENCE)?);
            let id = attribute.expect(OBJECT_ID)?;
            let (_, value) = attribute.next()?;
            let key = match id {
                [0x55, 0x04, 3] => "CN",
                [0x55, 0x04, 5] => "SERIALNUMBER",
                [0x55, 0x04, 6] => "C",
                [0x55, 0x04, 7] => "L",
                [0x55, 0x04, 8] => "ST",
                [0x55, 0x04, 9] => "STREET",
                [0x55, 0x04, 10] => "O",
                [0x55, 0x04, 11] => "OU",
                [0x55, 0x04, 17] => "POSTALCODE",
                [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
                // A name that leaves out what it does not know would stand for other certificates,
                // too.
                _ => "?",
            };
            found.push(format!("{key}={}", std::str::from_utf8(value).ok()?));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made() -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["ann.example".to_owned()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::Rfc822Name("ann@example".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme");
        params.distinguished_name.push(rcgen::DnType::CommonName, "ann");
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn subject_and_alternative_names_are_found() {
        let names = CertificateNames::read(&made());
        for name in ["ann.example", "ann@example", "CN=ann,O=Acme", "O=Acme, CN=ann"] {
            assert!(names.contain(name), "{name} in {names:?}");
        }
        for name in ["ann", "", "CN=ann", "CN=ann,O=Acme,OU=x", "O=Acme"] {
            assert!(!names.contain(name), "{name} in {names:?}");
        }
        assert!(!CertificateNames::default().contain(""));
    }

    proptest! {
        #[test]
        fn broken_certificates_have_no_names_of_others(cut in 0usize..400, at in 0usize..400, byte: u8) {
            let mut der = made();
            der.truncate(der.len().saturating_sub(cut));
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            prop_assert!(!CertificateNames::read(&der).contain("bob@example"));
        }
    }
}
