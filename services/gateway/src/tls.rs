//! TLS for clients: certificates from files, or from an own authority, made when first asked for.
//!
//! The authority of a folder is made once and kept there; whoever trusts its `ca.pem` trusts it
//! for names of the gateway's own domain only. A certificate is made for a name that exists, so
//! strangers cannot fill the store by asking for others.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::Certificates;
use crate::limits::{CERTIFICATE_AGE, CERTIFICATES_MAX};
use crate::table::Table;

/// An own authority's certificate in its folder: what clients are to trust.
pub fn authority_file(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

pub struct Tls {
    config: Arc<rustls::ServerConfig>,
}

impl Tls {
    /// `domain` as in names, without dot; `own` is the address listened at.
    ///
    /// Errors: a file cannot be read or written, or does not hold what it should.
    pub fn new(
        certificates: &Certificates,
        domain: &str,
        own: IpAddr,
        table: Arc<ArcSwap<Table>>,
    ) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let resolver: Arc<dyn ResolvesServerCert> = match certificates {
            Certificates::Authority(folder) => Arc::new(OnDemand {
                authority: Authority::of(folder, domain)?,
                domain: domain.to_ascii_lowercase(),
                own,
                table,
                made: Mutex::default(),
            }),
            Certificates::Files(files) => Arc::new(FromFiles::read(files)?),
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choose versions of TLS")?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = ["h2", "http/1.1", "http/1.0"].map(Vec::from).to_vec();
        Ok(Self {
            config: Arc::new(config),
        })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.clone())
    }
}

/// Signs for one domain and what is below it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn of(folder: &Path, domain: &str) -> Result<Self> {
        let (certificate, key) = (authority_file(folder), folder.join("ca-key.pem"));
        if !key.exists() {
            fs::create_dir_all(folder)
                .with_context(|| format!("make the folder {}", folder.display()))?;
            make_authority(&certificate, &key, domain)
                .with_context(|| format!("make an authority in {}", folder.display()))?;
        }
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
        };
        let (_, pair) = (read(&certificate)?, KeyPair::from_pem(&read(&key)?));
        let pair = pair.with_context(|| format!("{} is no key", key.display()))?;
        Ok(Self {
            issuer: Issuer::new(authority_params(domain)?, pair),
        })
    }

    fn sign(&self, names: Vec<SanType>) -> Result<CertifiedKey> {
        let pair = KeyPair::generate().context("make a key")?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name.remove(DnType::CommonName);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = SystemTime::now();
        // Clocks differ.
        params.not_before = (now - Duration::from_secs(3_600)).into();
        params.not_after = (now + 4 * CERTIFICATE_AGE).into();
        let certificate = params.signed_by(&pair, &self.issuer).context("sign")?;
        certified(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(pair.serialize_der()).into(),
        )
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .context("the key does not fit the certificate")
}

fn authority_params(domain: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Runrig authority for {domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_string())],
        excluded_subtrees: Vec::new(),
    });
    Ok(params)
}

fn make_authority(certificate: &Path, key: &Path, domain: &str) -> Result<()> {
    let pair = KeyPair::generate()?;
    let mut params = authority_params(domain)?;
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(86_400)).into();
    params.not_after = (now + Duration::from_secs(10 * 365 * 86_400)).into();
    let pem = params.self_signed(&pair)?.pem();
    fs::write(certificate, pem)?;
    // The key comes last and at once: an authority that has one is whole.
    let new = key.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(pair.serialize_pem().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, key)?;
    Ok(())
}

struct Made {
    key: Arc<CertifiedKey>,
    at: Instant,
}

/// Certificates of the own authority, each kept until it is old.
struct OnDemand {
    authority: Authority,
    domain: String,
    own: IpAddr,
    table: Arc<ArcSwap<Table>>,
    made: Mutex<HashMap<String, Made>>,
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand").finish_non_exhaustive()
    }
}

impl OnDemand {
    /// The gateway itself, or a service behind it.
    fn exists(&self, name: &str) -> bool {
        name == self.domain
            || name
                .strip_suffix(&self.domain)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|service| self.table.load().service(service).is_some())
    }

    fn key(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name.map_or_else(|| self.domain.clone(), str::to_ascii_lowercase);
        if !self.exists(&name) {
            return None;
        }
        let mut made = self.made.lock().expect("not poisoned");
        if let Some(known) = made.get(&name)
            && known.at.elapsed() < CERTIFICATE_AGE
        {
            return Some(known.key.clone());
        }
        let mut names = vec![SanType::DnsName(name.as_str().try_into().ok()?)];
        if name == self.domain {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            let own = (!self.own.is_unspecified()).then_some(self.own);
            let mut all: Vec<IpAddr> = own.into_iter().chain(loopback).collect();
            all.sort();
            all.dedup();
            names.extend(all.into_iter().map(SanType::IpAddress));
        }
        let key = match self.authority.sign(names) {
            Ok(key) => Arc::new(key),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    name,
                    "no certificate can be made"
                );
                return None;
            }
        };
        if made.len() >= CERTIFICATES_MAX {
            made.clear();
        }
        let at = Instant::now();
        made.insert(
            name,
            Made {
                key: key.clone(),
                at,
            },
        );
        Some(key)
    }
}

impl ResolvesServerCert for OnDemand {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key(hello.server_name())
    }
}

/// Certificates that somebody else made.
#[derive(Debug)]
struct FromFiles(Vec<Arc<CertifiedKey>>);

impl FromFiles {
    fn read(files: &[(PathBuf, PathBuf)]) -> Result<Self> {
        let all = files
            .iter()
            .map(|(chain, key)| {
                let named = |path: &Path| path.display().to_string();
                let chain_der = CertificateDer::pem_file_iter(chain)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .with_context(|| format!("read certificates from {}", named(chain)))?;
                anyhow::ensure!(!chain_der.is_empty(), "{} has no certificate", named(chain));
                let key_der = PrivateKeyDer::from_pem_file(key)
                    .with_context(|| format!("read a key from {}", named(key)))?;
                let key = certified(chain_der, key_der)
                    .with_context(|| format!("{} and {}", named(chain), named(key)))?;
                Ok(Arc::new(key))
            })
            .collect::<Result<Vec<_>>>()?;
        anyhow::ensure!(!all.is_empty(), "TLS needs a certificate and its key");
        Ok(Self(all))
    }
}

impl ResolvesServerCert for FromFiles {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let first = self.0.first();
        let Some(name) = hello
            .server_name()
            .and_then(|n| ServerName::try_from(n).ok())
        else {
            return first.cloned();
        };
        let fits = |key: &&Arc<CertifiedKey>| {
            key.cert
                .first()
                .and_then(|der| ParsedCertificate::try_from(der).ok())
                .is_some_and(|c| rustls::client::verify_server_name(&c, &name).is_ok())
        };
        self.0.iter().find(fits).or(first).cloned()
    }
}
