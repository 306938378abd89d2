//! Opening images as the flags and the environment say, with progress, warnings and errors that name the image.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::{
    Excerpt, Image, ImageOptions, ImageSet, LayerChoice, LayoutPlatforms, Opened, Selection,
    Structure, View,
};
use ocifs::mount::{Lookups, REGISTRIES};
use ocifs::reference::{DirectoryName, ImageName, LocalLayout, LocalSource, StoredImage};
use ocifs::source::ListedStore;
use ocifs::source::registry::{CredentialKeeper, Credentials};
use ocifs::space::{Archives, Journal, Layout, Opener, Registries};
use ocifs::tree::{Question, Sharing};

use super::contained::{self, Outlet};
use super::proof;
use crate::args::{ImageArgs, RequiredProof};
use crate::environment::{self, Settings};
use crate::render::errors::{About, AnyError};
use crate::render::progress::Bar;

/// What is done with the images that are about to be opened.
pub(super) type Confine<'a> =
    &'a dyn Fn(&mut [(ImageName, ImageOptions)], &Cache) -> Result<(), AnyError>;

/// What a verb wants of the images that it opens.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// What has to be proven if neither flags nor settings say that.
    pub(super) proof: RequiredProof,
    /// Whether files say where they are from.
    pub(super) provenance: bool,
    /// What the names were found to be, in their order, where that is to be opened again.
    pub(super) before: Option<&'a [Opened]>,
    /// What this process does last before it reads what strangers have made.
    pub(super) confine: Option<Confine<'a>>,
}

impl Wanted<'_> {
    /// Applies it to the image at a place among the names.
    pub(super) fn apply(&self, at: usize, options: &mut ImageOptions) {
        options.provenance = self.provenance;
        if let Some(before) = self.before.and_then(|before| before.get(at)) {
            options.open_again(before.clone());
        }
    }
}

/// Opens several images to be shown in one file system, with one progress bar for all.
pub(super) fn open_images(
    images: &[(DirectoryName, ImageName)],
    sharing: Sharing,
    args: &ImageArgs,
    wanted: Wanted<'_>,
) -> Result<View, AnyError> {
    let settings = Settings::read()?;
    let named = images.iter().map(|(_, name)| environment::image(name, args, &settings));
    let mut named = named.collect::<Result<Vec<_>, AnyError>>()?;
    let cache = environment::cache(&args.cache_args);
    for (at, (_, options)) in named.iter_mut().enumerate() {
        wanted.apply(at, options);
    }
    if let Some(confine) = wanted.confine {
        confine(&mut named, &cache)?;
    }
    let Some((_, first)) = named.first() else { return Err("there is no image".into()) };
    let mut set = ImageSet::new(&cache, first);
    let all = images.iter().zip(&named);
    let all: Vec<_> = all.map(|((to, _), (name, of))| (to.clone(), name, of)).collect();
    let bar = Bar::first_use_of(named.iter().map(|(name, _)| name));
    set.add_all(&all, &bar).map_err(|e| About::new(all[e.image].1, e.error))?;
    bar.ready();
    let view = set.finish(sharing)?;
    let required = settings.required_proof(args)?;
    for shown in view.images() {
        proof::warn(&shown.image.name, &shown.proofs, required);
    }
    Ok(view)
}

/// Opens an image as the flags and the environment say, showing progress.
pub(super) fn open_image(
    name: &ImageName,
    args: &ImageArgs,
    wanted: Wanted<'_>,
) -> Result<Image, AnyError> {
    let settings = Settings::read()?;
    let (name, mut options) = environment::image(name, args, &settings)?;
    let required = settings.required_proof(args)?.or(wanted.proof);
    options.prove = required == RequiredProof::Full;
    wanted.apply(0, &mut options);
    let cache = environment::cache(&args.cache_args);
    let mut named = [(name, options)];
    if let Some(confine) = wanted.confine {
        confine(&mut named, &cache)?;
    }
    let [(name, options)] = named;
    let bar = Bar::first_use(&name);
    let image = Image::open(&name, &cache, &options, &bar).map_err(failed(&name))?;
    bar.ready();
    proof::warn(&image.resolved().name, image.proofs(), required);
    Ok(image)
}

/// An image by the name that the user's aliases give it, what opening it needs, and the cache. From here on this process
/// is contained: it prints, or writes one `file`, which it has begun.
pub(super) fn to_print(
    name: &ImageName,
    args: &ImageArgs,
    settings: &Settings,
    file: Option<&Path>,
) -> Result<(ImageName, ImageOptions, Arc<Cache>), AnyError> {
    let mut named = [environment::image(name, args, settings)?];
    let cache = environment::cache(&args.cache_args);
    contained::reader(&mut named, &cache, args, Outlet::One(file))?;
    let [(name, options)] = named;
    Ok((name, options, cache))
}

/// Opens as much of an image as some questions need, or one layer alone, as the flags and the environment say.
pub(super) fn open_excerpt(
    name: &ImageName,
    questions: &[Question],
    layer: Option<&LayerChoice>,
    args: &ImageArgs,
    default: RequiredProof,
    outlet: Outlet<'_>,
) -> Result<Excerpt, AnyError> {
    let settings = Settings::read()?;
    let required = settings.required_proof(args)?.or(default);
    let mut named = [environment::image(name, args, &settings)?];
    let cache = environment::cache(&args.cache_args);
    contained::reader(&mut named, &cache, args, outlet)?;
    let [(name, mut options)] = named;
    options.prove = required == RequiredProof::Full;
    let bar = Bar::first_use(&name);
    let excerpt = match layer {
        Some(layer) => Excerpt::open_layer(&name, layer, &cache, &options, &bar),
        None => Excerpt::open(&name, questions, &cache, &options, &bar),
    };
    let excerpt = excerpt.map_err(failed(&name))?;
    bar.ready();
    proof::warn(&excerpt.resolved().name, excerpt.proofs(), required);
    Ok(excerpt)
}

/// What knows the credentials of images, in the place of this process.
pub(super) trait Keeper: fmt::Debug + Send + Sync {
    /// What knows those of an image.
    fn of(&self, image: &ImageName) -> Arc<dyn CredentialKeeper>;
}

/// Registries that are reached as the flags and the environment say, with the names that a journal has. If another process
/// is the `keeper` of credentials, this one is confined.
pub(super) fn open_registries(
    args: &ImageArgs,
    archives: &[PathBuf],
    journal: Journal,
    keeper: Option<Box<dyn Keeper>>,
    confine: Option<Confine<'_>>,
) -> Result<Lookups, AnyError> {
    let archives = Archives::new(archives).map_err(|e| format!("--archives: {e}"))?;
    let cache = environment::cache(&args.cache_args);
    let settings = Settings::read()?;
    let proves_later = settings.required_proof(args)? == RequiredProof::Transport;
    if let Some(confine) = confine {
        let mut images = any_image(args, &settings);
        images.extend(archives.folders().map(|folder| {
            let (layout, path) = (LocalLayout::ByContent, folder.to_owned());
            let local = LocalSource { layout, path, selector: None };
            (ImageName::Local(local), ImageOptions::default())
        }));
        confine(&mut images, &cache)?;
    }
    let args = ImageArgs { has_keeper: keeper.is_some(), ..args.clone() };
    let timeout = args.timeout;
    let opener = FlagsAndSettings { args, settings, keeper };
    Ok(Lookups {
        directories: Registries::new(Box::new(opener), archives, &cache, timeout, journal)?,
        source: REGISTRIES.to_owned(),
        selection: Selection::default(),
        proves_later,
    })
}

/// An image of a registry and one of each store of this machine, for what opening such a one needs. Engines that do not
/// run now do not count: to ask one is to have the rights that it has.
fn any_image(args: &ImageArgs, settings: &Settings) -> Vec<(ImageName, ImageOptions)> {
    let stores = ListedStore::ALL.iter().map(|store| format!("{}:x", store.word()));
    let names = stores.chain(["registry.example/x".to_owned()]);
    let images = names.filter_map(|name| {
        // What is wrong with the settings of a store is told when it is looked at.
        environment::image(&name.parse().ok()?, args, settings).ok()
    });
    let is_there = |(name, options): &(ImageName, ImageOptions)| match name {
        ImageName::Stored(StoredImage::DockerDaemon { .. }) => {
            options.stores.docker_sockets.iter().any(|socket| socket.exists())
        }
        _ => true,
    };
    images.filter(is_there).collect()
}

/// What an image consists of, with the directories that a journal has.
pub(super) fn open_layout(
    name: &ImageName,
    platforms: LayoutPlatforms,
    args: &ImageArgs,
    journal: Journal,
    wanted: Wanted<'_>,
) -> Result<Lookups, AnyError> {
    let mut named = [environment::image(name, args, &Settings::read()?)?];
    let cache = environment::cache(&args.cache_args);
    wanted.apply(0, &mut named[0].1);
    if let Some(confine) = wanted.confine {
        confine(&mut named, &cache)?;
    }
    let [(name, mut options)] = named;
    let structure = match platforms {
        LayoutPlatforms::One => Structure::open(&name, &cache, &options),
        LayoutPlatforms::All => {
            options.platform = None;
            Structure::of_all_platforms(&name, &cache, &options)
        }
    };
    let structure = structure.map_err(failed(&name))?;
    let proves_later = options.headers;
    let selection = Selection { layout: Some(platforms), ..options.selection() };
    let directories = Layout::new(structure, args.timeout, journal)?;
    Ok(Lookups { directories, source: name.to_string(), selection, proves_later })
}

/// Opens images as the flags and the environment say.
#[derive(Debug)]
struct FlagsAndSettings {
    args: ImageArgs,
    settings: Settings,
    keeper: Option<Box<dyn Keeper>>,
}

impl Opener for FlagsAndSettings {
    fn options(&self, name: &ImageName) -> Result<(ImageName, ImageOptions), String> {
        let opened = environment::image(name, &self.args, &self.settings);
        let (name, mut options) = opened.map_err(|error| error.to_string())?;
        if let (Some(keeper), ImageName::Registry(_)) = (&self.keeper, &name) {
            options.registry.credentials = Credentials::kept_by(keeper.of(&name));
        }
        Ok((name, options))
    }
}

/// Names the image that an error is about.
pub(super) fn failed(name: &ImageName) -> impl FnOnce(ocifs::image::Error) -> About {
    move |error| About::new(name, error)
}
