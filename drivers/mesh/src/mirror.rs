//! Tells hosts by which address they are seen, so that two of them behind NATs find a direct
//! way: QUIC address discovery, as iroh's endpoints ask for it.
//!
//! Anybody may ask: the answer is what everybody on the way knows. Its certificate proves
//! nothing, and need not: an address is only ever tried, and who answers there must prove to
//! be the host that is meant.

use std::net::SocketAddr;
use std::sync::Arc;

use iroh_relay::quic::ALPN_QUIC_ADDR_DISC;
use iroh_relay::tls::CaTlsConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::sync::Semaphore;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::MeshError;
use crate::limits::{GREETING_TIME, GREETINGS_MAX, IDLE_TIME, MIRRORED_MAX};

/// For the question how we are seen, and only for what does not matter if it is a lie.
pub fn unproven() -> CaTlsConfig {
    CaTlsConfig::custom_server_cert_verifier(Arc::new(|provider| Ok(Arc::new(Any(provider)))))
}

#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

pub struct Mirror {
    endpoint: noq::Endpoint,
}

fn settings() -> Result<noq::ServerConfig, Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(["relay".to_string()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    tls.alpn_protocols = vec![ALPN_QUIC_ADDR_DISC.to_vec()];
    let tls = noq::crypto::rustls::QuicServerConfig::try_from(tls)?;
    let mut transport = noq::TransportConfig::default();
    transport
        .max_concurrent_uni_streams(0_u8.into())
        .max_concurrent_bidi_streams(0_u8.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some((IDLE_TIME * 6).try_into()?))
        .send_observed_address_reports(true);
    let mut settings = noq::ServerConfig::with_crypto(Arc::new(tls));
    settings
        .max_incoming(GREETINGS_MAX)
        .transport_config(Arc::new(transport));
    Ok(settings)
}

impl Mirror {
    pub fn open(listen: SocketAddr) -> Result<Self, MeshError> {
        let open = |why: String| {
            let next = "Choose another with --listen: the relay takes UDP there, too";
            MeshError::new(&format!("open UDP {listen}"), why, next)
        };
        let settings = settings().map_err(|e| open(e.to_string()))?;
        let endpoint = noq::Endpoint::server(settings, listen).map_err(|e| open(e.to_string()))?;
        Ok(Self { endpoint })
    }

    /// Returns when it is closed.
    pub async fn serve(&self) {
        let places = Arc::new(Semaphore::new(MIRRORED_MAX));
        while let Some(incoming) = self.endpoint.accept().await {
            if !incoming.remote_address_validated() {
                // Whoever asks with somebody else's address hears nothing more.
                let _ = incoming.retry();
                continue;
            }
            let Ok(place) = places.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            tokio::spawn(async move {
                let _place = place;
                if let Ok(Ok(connection)) = tokio::time::timeout(GREETING_TIME, incoming).await {
                    connection.closed().await;
                }
            });
        }
    }

    pub fn close(&self) {
        self.endpoint.close(0_u8.into(), b"the relay ends");
    }
}
