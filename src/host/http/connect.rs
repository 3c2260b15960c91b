//! Connections: to an address of the host or through a proxy, and TLS over that.

use super::{Client, Trust, head, io_error, proxy, tls};
use crate::base::url::{Scheme, Url};
use crate::error::{Context, Error, Result};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// An open connection.
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// TLS in TLS: an https server behind an https proxy.
    Nested(Box<StreamOwned<ClientConnection, Stream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Nested(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(data),
            Self::Tls(stream) => stream.write(data),
            Self::Nested(stream) => stream.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
            Self::Nested(stream) => stream.flush(),
        }
    }
}

/// A connection, and how requests are put on it.
pub struct Connection {
    /// The stream.
    pub stream: Stream,
    /// A plain request goes through a proxy, with these credentials (perhaps empty).
    pub through_proxy: Option<String>,
}

impl Client {
    /// Connects to the host of `url`.
    pub(super) fn connect(&self, url: &Url, trust: &Trust) -> Result<Connection> {
        let Some(proxy) = self.settings.proxies.of(url)? else {
            let tcp = self.tcp(url)?;
            let stream = match url.scheme {
                Scheme::Http => Stream::Plain(tcp),
                Scheme::Https => self.tls(Stream::Plain(tcp), url, trust)?,
            };
            return Ok(Connection { stream, through_proxy: None });
        };
        let fail = || format!("Proxy \"{}\"", proxy.host_and_port());
        let tcp = Stream::Plain(self.tcp(&proxy).with_context(fail)?);
        let mut stream = match proxy.scheme {
            Scheme::Http => tcp,
            Scheme::Https => self.tls(tcp, &proxy, &Trust::default()).with_context(fail)?,
        };
        let credentials = proxy.login.as_ref().map(proxy::basic).unwrap_or_default();
        if url.scheme == Scheme::Http {
            return Ok(Connection { stream, through_proxy: Some(credentials) });
        }
        self.tunnel(&mut stream, url, &credentials).with_context(fail)?;
        Ok(Connection { stream: self.tls(stream, url, trust)?, through_proxy: None })
    }

    /// CONNECT (RFC 9110, section 9.3.6).
    fn tunnel(&self, stream: &mut Stream, url: &Url, credentials: &str) -> Result<()> {
        let host = url.host_and_port();
        let mut text = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n");
        if !credentials.is_empty() {
            text.push_str(&format!("Proxy-Authorization: {credentials}\r\n"));
        }
        text.push_str("\r\n");
        stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).map_err(io_error)?;
        let (head, rest) = head::read(stream, self.settings.times.connect)?;
        match head.status {
            200..300 if rest.is_empty() => Ok(()),
            200..300 => Err(Error::failed("It speaks before it is asked")),
            407 => Err(Error::denied("It wants a user and a password")),
            status => Err(Error::failed(format!("It answered with status {status}"))),
        }
    }

    /// Tries the addresses of the host one after the other.
    fn tcp(&self, url: &Url) -> Result<TcpStream> {
        let times = &self.settings.times;
        let mut last = Error::not_found("It has no address");
        for address in self.settings.resolver.resolve(&url.host)? {
            match TcpStream::connect_timeout(&SocketAddr::new(address, url.port), times.connect) {
                Ok(stream) => {
                    let set = stream.set_read_timeout(Some(times.idle));
                    set.and_then(|()| stream.set_write_timeout(Some(times.idle)))?;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(e) => last = io_error(e),
            }
        }
        Err(last.context(format!("Failed connecting to \"{}\"", url.host_and_port())))
    }

    fn tls(&self, stream: Stream, url: &Url, trust: &Trust) -> Result<Stream> {
        let fail = || format!("Failed connecting to \"{}\"", url.host_and_port());
        let config = tls::config(trust, || self.roots()).with_context(fail)?;
        let name = ServerName::try_from(url.host.clone());
        let name = name.map_err(|_| Error::invalid(format!("Invalid host name {:?}", url.host)))?;
        let connection = ClientConnection::new(Arc::new(config), name);
        let mut connection = connection.map_err(|e| tls::error(&e)).with_context(fail)?;
        match stream {
            Stream::Plain(mut tcp) => {
                connection.complete_io(&mut tcp).map_err(io_error).with_context(fail)?;
                Ok(Stream::Tls(Box::new(StreamOwned::new(connection, tcp))))
            }
            mut other => {
                connection.complete_io(&mut other).map_err(io_error).with_context(fail)?;
                Ok(Stream::Nested(Box::new(StreamOwned::new(connection, other))))
            }
        }
    }

    fn roots(&self) -> Result<Arc<rustls::RootCertStore>> {
        if let Some(roots) = self.roots.get() {
            return Ok(Arc::clone(roots));
        }
        let read = Arc::new(tls::roots(self.settings.roots.as_deref())?);
        Ok(Arc::clone(self.roots.get_or_init(|| read)))
    }

    /// The certificate that the host of `url` shows, as PEM; nothing is sent to it.
    ///
    /// # Errors
    /// No connection; it is no https URL.
    pub fn certificate(&self, url: &Url) -> Result<String> {
        let probe = Trust { probe: true, ..Trust::default() };
        let shown = match &self.connect(url, &probe)?.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.conn.peer_certificates().and_then(|c| c.first()).map(|c| tls::pem(c)),
            Stream::Nested(stream) => stream.conn.peer_certificates().and_then(|c| c.first()).map(|c| tls::pem(c)),
        };
        shown.ok_or_else(|| Error::failed(format!("\"{}\" shows no certificate", url.host_and_port())))
    }
}
