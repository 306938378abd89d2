//! What helps where something failed, in terms of what a caller of this library can do. The text of an error says what
//! failed; which flag, command or file of a program stands for a hint, that program knows.

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Try again later, or allow more time: [`ImageOptions::read_deadline`](crate::image::ImageOptions) and the
    /// deadlines of [`registry::RegistryOptions`](crate::source::registry::RegistryOptions).
    AllowMoreTime,
    /// Open the image once without `offline`: what is missing is fetched then.
    GoOnline,
    /// The same, or do without the proof: `prove`.
    GoOnlineOrUnproven,
    /// Say again that the registry is exempt from TLS or from the check of its certificate (`is_exempt`), or name
    /// the image by its digest.
    ExemptAgain,
    /// Choose a platform that there is.
    ChoosePlatform,
    /// Raise `max_layer_bytes`, if the image is to be trusted.
    AllowLargerLayers,
    /// Raise `max_metadata_bytes`, if the image is to be trusted.
    AllowMoreMetadata,
    /// Raise the limit of [`codec::Limits`](crate::codec::Limits).
    AllowLargerWindow,
    /// Raise the limit of the cache, or make room on its disk.
    EnlargeCache,
    /// Ask the registry in plain HTTP, if it is meant so.
    SpeakPlainHttp,
    /// Trust the certificate, if it is the right one.
    TrustCertificate,
    /// Give a client certificate that the server knows.
    GiveClientCertificate,
    /// Load FUSE into the kernel, and let containers have its device.
    ProvideFuse,
    /// Let users, or a container, open the device of FUSE.
    PermitFuse,
    /// Give a container the right to mount.
    PermitMounting,
    /// Do not let other users in, or permit that in the configuration of FUSE.
    KeepOthersOut,
    /// Unmount what is mounted there, mount somewhere else, or mount over it.
    MountOver,
    /// End what uses the mount, or detach it while it is used.
    Detach,
    /// Mount without `kernel_metadata`.
    MountWithoutKernelMetadata,
    /// The same, or raise `max_kernel_metadata_bytes`.
    AllowMoreKernelMetadata,
}
