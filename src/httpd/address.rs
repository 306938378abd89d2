//! Where something is served: a host and a port, or a Unix socket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where something is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp(String),
    /// A path.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.is_empty() {
                true => Err("unix: needs the path of a socket".to_owned()),
                false => Ok(Address::Unix(path.into())),
            };
        }
        let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(_)) => Ok(Address::Tcp(text.to_owned())),
            _ => Err("an address is `HOST:PORT` or `unix:PATH`".to_owned()),
        }
    }
}

/// As an error names it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host) => f.write_str(host),
            Address::Unix(path) => fmt::Display::fmt(&path.display(), f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let tcp = |text: &str| Ok(Address::Tcp(text.to_owned()));
        assert_eq!("127.0.0.1:9750".parse::<Address>(), tcp("127.0.0.1:9750"));
        assert_eq!("[::1]:0".parse::<Address>(), tcp("[::1]:0"));
        assert_eq!("unix:/run/x".parse::<Address>(), Ok(Address::Unix("/run/x".into())));
        for wrong in ["", "9750", "host", "host:x", "host:70000", "unix:", "/run/x"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
