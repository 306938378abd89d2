//! What takes long, done by threads: reading files, walking over all names, searching.
//!
//! A request is done by [`perform`], which tells what it finds as it goes. Each kind of work has a number, the
//! *generation*, which the user's next wish of that kind makes another; work whose number is not the newest ends soon, and
//! what it still tells is not listened to. So nothing has to be taken back, and a wait for a dead registry keeps
//! no one waiting but itself.

mod asked;
pub(super) mod find;
mod grep;
mod read;
mod save;
mod seek;
mod walk;

use std::sync::Arc;

pub(crate) use save::Saver;

pub(super) use asked::READ_BYTES;
pub(super) use asked::{Answer, Content, Filter, Generations, Hit, Keep, Kind, Request, Searched};

use super::listing::list;

pub(super) use seek::{MOST_SOUGHT, Sought};

/// Does what was asked for, and tells what comes of it.
pub(super) fn perform(
    request: Request,
    newest: &Generations,
    saver: &dyn Saver,
    tell: &mut dyn FnMut(Answer),
) {
    match request {
        Request::Read { generation, view, place, offset } => {
            let content = read::read(&view, place, offset).map_err(|e| read::words(&e));
            tell(Answer::Read { generation, offset, content });
        }
        Request::List { generation, wanted } => {
            tell(Answer::Listed { generation, listed: list(wanted) });
        }
        Request::Keep { generation, view, keep } => {
            let is_wanted = || newest.is_newest(Kind::Keep, generation);
            if let Some(kept) = walk::kept(&view, keep, &is_wanted) {
                let (layer, kept) = (view.layer, Arc::new(kept));
                tell(Answer::Kept { generation, keep, layer, kept });
            }
        }
        Request::Sums { generation, view } => {
            let is_wanted = || newest.is_newest(Kind::Sums, generation);
            if let Some(sums) = walk::sums(&view, &is_wanted) {
                tell(Answer::Sums { generation, layer: view.layer, sums: Arc::new(sums) });
            }
        }
        Request::Find { generation, view, needle, kept } => {
            let is_wanted = || newest.is_newest(Kind::Find, generation);
            if let Some((paths, is_cut)) = find::find(&view, &needle, kept.as_ref(), &is_wanted) {
                tell(Answer::Found { generation, paths, is_cut });
            }
        }
        Request::Grep { generation, view, needle, kept } => {
            let is_wanted = || newest.is_newest(Kind::Grep, generation);
            let mut found = |found| match found {
                grep::Found::Hit(hit) => tell(Answer::Hit { generation, hit }),
                grep::Found::Searched(searched) => tell(Answer::Searched { generation, searched }),
            };
            grep::grep(&view, &needle, kept.as_ref(), &is_wanted, &mut found);
        }
        Request::Seek { generation, view, place, sought } => {
            let is_wanted = || newest.is_newest(Kind::Seek, generation);
            if let Some(found) = seek::seek(&view, place, &sought, &is_wanted) {
                let found = found.map_err(|e| read::words(&e));
                tell(Answer::Sought { generation, found });
            }
        }
        Request::Save { view, place, to } => {
            tell(Answer::Saved(save::save(&view, place, &to, saver).map_err(|e| read::words(&e))));
        }
        Request::Count { view } => {
            if let Some((stack, _)) = view.as_of() {
                let wasted = stack.wasted(walk::MAX_WASTED);
                tell(Answer::Counted { changes: stack.changes(), wasted });
            }
        }
    }
}
