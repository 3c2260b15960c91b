//! Whom we trust: the system's certificate authorities, authorities of a remote's own, or one pinned certificate.
//!
//! rustls with the ring provider, handed over by hand: nothing here is global.

use crate::error::{Context, Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where systems keep the certificates of authorities in one file: Debian, Fedora, openSUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const FILE_MAX: u64 = 16 << 20;

/// Which certificates count for a host, beyond those of the system's authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// PEM text; the host's own certificate must be the first of it, whatever it says and whoever signed it.
    pub pinned: Option<String>,
    /// Take any certificate, to show it to the user before anything is sent.
    pub probe: bool,
}

/// sha256 of the first certificate in a PEM text, 64 hexadecimal digits.
///
/// # Errors
/// There is none in it.
pub fn fingerprint(pem: &str) -> Result<String> {
    Ok(digest(&certificate(pem)?))
}

fn digest(der: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(der).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Error::invalid("There is no certificate in the file"))
}

/// A certificate as PEM (RFC 7468).
pub(super) fn pem(der: &[u8]) -> String {
    let text = super::proxy::base64(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The system's authorities, or those of `file` in their place.
///
/// # Errors
/// There are none.
pub(super) fn roots(file: Option<&Path>) -> Result<RootCertStore> {
    let candidates = file.map_or_else(|| BUNDLES.map(PathBuf::from).to_vec(), |file| vec![file.to_path_buf()]);
    let there = candidates.iter().find(|path| path.is_file());
    let path = there.ok_or_else(|| {
        Error::failed("This host knows no certificate authorities").hint("install the package ca-certificates")
    })?;
    let fail = || format!("Failed reading \"{}\"", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|f| f.take(FILE_MAX).read_to_end(&mut bytes)).with_context(fail)?;
    let mut store = RootCertStore::empty();
    // Certificates that cannot be used are passed over, as everywhere: bundles hold odd ones.
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).filter_map(std::result::Result::ok));
    if store.is_empty() {
        return Err(Error::failed(format!("There is no certificate in \"{}\"", path.display())));
    }
    Ok(store)
}

/// What a connection is made with.
///
/// # Errors
/// The pinned certificate is none.
pub(super) fn config(trust: &Trust, roots: impl FnOnce() -> Result<Arc<RootCertStore>>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| Error::internal("No TLS version is left").caused_by(e))?;
    let exactly = trust.pinned.as_deref().map(certificate).transpose()?;
    if exactly.is_none() && !trust.probe {
        return Ok(builder.with_root_certificates(roots()?).with_no_client_auth());
    }
    let verifier = Pinned { exactly, provider };
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Takes one certificate (or, for a probe, any), and still makes the server prove that it has the key.
#[derive(Debug)]
struct Pinned {
    exactly: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match &self.exactly {
            Some(exactly) if exactly != end_entity => {
                Err(rustls::Error::General("The server's certificate has changed".to_string()))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS error in our words.
pub(super) fn error(e: &rustls::Error) -> Error {
    use rustls::CertificateError as C;
    let rustls::Error::InvalidCertificate(why) = e else {
        return Error::failed(format!("TLS: {e}"));
    };
    let text = match why {
        C::UnknownIssuer => "The certificate is signed by unknown authority",
        C::Expired | C::ExpiredContext { .. } => "The certificate has expired",
        C::NotValidYet | C::NotValidYetContext { .. } => "The certificate isn't valid yet",
        C::NotValidForName | C::NotValidForNameContext { .. } => "The certificate is for another host",
        C::Revoked => "The certificate was revoked",
        // What openssl(1) makes unless told otherwise: it says of itself that it is an authority's.
        C::Other(why) if format!("{why:?}").contains("CaUsedAsEndEntity") => {
            return Error::denied("The certificate is an authority's own, not one for a server")
                .hint("If it is the right one: remote add with --accept-certificate");
        }
        _ => return Error::denied(format!("TLS: {e}")),
    };
    Error::denied(text)
}
