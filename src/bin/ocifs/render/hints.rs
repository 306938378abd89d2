//! What helps where something failed, as flags, commands and files: the words for the hints of the library.

use std::error::Error;
use std::io;

use ocifs::fuse::{erofs_mount, kernel};
use ocifs::hint::Hint;
use ocifs::{fs, image, mount, source};

/// What helps, if anything is known to.
pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Hint> {
    if let Some(error) = error.downcast_ref::<image::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<mount::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<kernel::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<erofs_mount::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<fs::Error>() {
        return error.hint();
    }
    let error = error.downcast_ref::<io::Error>()?;
    match error.get_ref() {
        Some(inner) if inner.is::<fs::Error>() => of(inner),
        _ => source::hint_of(error),
    }
}

/// The words for a hint, for the end of a message.
pub(crate) fn words(hint: Hint) -> &'static str {
    match hint {
        Hint::AllowMoreTime => "try again later, or raise --timeout",
        Hint::GoOnline => "mount it once without --offline, or `ocifs pull` it",
        Hint::GoOnlineOrUnproven => {
            "open the image once without --offline, or show it without a proof: `--proof any`"
        }
        Hint::ExemptAgain => {
            "give --plain-http or --tls-verify=false again to use that, or name the image by its digest"
        }
        Hint::ChoosePlatform => "choose one with --platform",
        Hint::AllowLargerLayers => "raise --max-layer-size if you trust the image",
        Hint::AllowMoreMetadata => "raise --max-metadata-size if you trust the image",
        Hint::AllowLargerWindow => "raise --max-zstd-window (2G at most)",
        Hint::EnlargeCache => "raise --cache-size, or choose another disk with --cache-dir",
        Hint::SpeakPlainHttp => "if the registry is meant to be plain HTTP, use --plain-http",
        Hint::TrustCertificate => {
            "if it is right, put it or its authority's certificate, in PEM, into \
             ~/.config/containers/certs.d/HOST:PORT/ca.crt, or turn verification off with \
             --tls-verify=false"
        }
        Hint::GiveClientCertificate => {
            "put it with its key into ~/.config/containers/certs.d/HOST:PORT/ as client.cert and \
             client.key"
        }
        Hint::ProvideFuse => {
            "the kernel needs FUSE (`modprobe fuse`), and a container `--device /dev/fuse`"
        }
        Hint::PermitFuse => {
            "root lets all users use FUSE with `chmod 666 /dev/fuse`, and a container's engine with \
             `--device /dev/fuse`"
        }
        Hint::PermitMounting => "a container needs `--cap-add SYS_ADMIN --device /dev/fuse`",
        Hint::KeepOthersOut => "add it, or mount without --allow-other",
        Hint::MountOver => {
            "unmount that first, or choose another directory; root can mount over it with --over"
        }
        Hint::Detach => "end what uses it, or detach it with --lazy",
        Hint::MountWithoutKernelMetadata => "--kernel-metadata can't be used: mount without it",
        Hint::AllowMoreKernelMetadata => {
            "mount without it, or raise the limit with --max-kernel-metadata"
        }
    }
}
