//! What a config tells people, as names and values.

use ocifs::image::InspectedImage;
use ocifs::oci::RunConfig;

use crate::render::screen::Screen;

/// A word of a command as it would be typed.
fn word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The words of a command as they would be typed.
pub(super) fn command(words: &[String]) -> String {
    words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" ")
}

/// Everything that is said, with a name for each value.
pub(super) fn all(image: &InspectedImage, screen: Screen) -> Vec<(&'static str, String)> {
    let details = &image.details;
    let RunConfig {
        user,
        exposed_ports,
        env,
        entrypoint,
        cmd,
        volumes,
        working_dir,
        labels,
        stop_signal,
    } = &details.run;
    let mut facts = Vec::new();
    let created = details.created.as_deref().map(|created| screen.written_time(created));
    facts.extend(created.map(|created| ("created", created)));
    facts.extend(details.author.clone().map(|author| ("author", author)));
    facts.push(("user", user.clone()));
    facts.push(("workdir", working_dir.clone()));
    facts.push(("entrypoint", command(entrypoint)));
    facts.push(("cmd", command(cmd)));
    facts.extend(exposed_ports.iter().map(|port| ("port", port.clone())));
    facts.extend(volumes.iter().map(|volume| ("volume", volume.clone())));
    facts.push(("stop signal", stop_signal.clone()));
    facts.extend(env.iter().map(|variable| ("env", variable.clone())));
    let labels = labels.iter().map(|(key, value)| ("label", format!("{key}={value}")));
    facts.extend(labels);
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_as_they_would_be_typed() {
        let words = ["sh", "-c", "echo 'a' b", "", "--x=1"].map(str::to_owned);
        assert_eq!(command(&words), r"sh -c 'echo '\''a'\'' b' '' --x=1");
    }
}
