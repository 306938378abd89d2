//! The explorer without a terminal: keys in as bytes, screens out as cells, over real images.

mod bounds;
mod fixture;
mod glimpse;
mod journeys;
mod keys;
mod looks;
mod rows;
