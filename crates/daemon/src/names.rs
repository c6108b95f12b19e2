//! Names for addresses of a target's code.

use redmagic_tracee::image::{Image, Symbol};
use redmagic_tracee::maps::Maps;

use crate::session::{Session, lock};

/// The images of a target, with their symbols.
#[derive(Debug, Default)]
pub struct Names {
    images: Vec<Image>,
}

impl Names {
    /// Reads the symbol tables of what is mapped; of what was mapped last, when the target is gone. Takes milliseconds.
    pub fn read(session: &Session) -> Names {
        let maps = match Maps::read(session.pid) {
            Ok(maps) if !maps.regions().is_empty() => maps,
            _ => lock(&session.symbols).maps().clone(),
        };
        Names {
            images: Image::all(session.pid, &maps),
        }
    }

    fn symbol(&self, address: u64) -> Option<(&Symbol, u64)> {
        self.images.iter().find_map(|image| image.function_at(address))
    }

    /// The function that an address is in, without what the compiler adds to the names of parts (`.cold`, `.part.0`).
    pub fn function(&self, address: u64) -> Option<&str> {
        let (symbol, _) = self.symbol(address)?;
        let name = symbol.name.as_str();
        Some(match name.find('.') {
            Some(at) if at > 0 => &name[..at],
            _ => name,
        })
    }

    /// The function of an address and how far into it it is; the address itself when that is not known.
    pub fn place(&self, address: u64) -> String {
        match self.symbol(address) {
            Some((symbol, 0)) => symbol.name.clone(),
            Some((symbol, offset)) => format!("{}+{offset:#x}", symbol.name),
            None => self.unnamed(address),
        }
    }

    /// The function, or the file, that an address is in.
    pub fn whole(&self, address: u64) -> String {
        self.function(address)
            .map_or_else(|| self.unnamed(address), str::to_owned)
    }

    fn unnamed(&self, address: u64) -> String {
        let image = self.images.iter().find(|image| image.range.contains(&address));
        match image.and_then(|image| image.path.rsplit('/').next()) {
            Some(file) => format!(
                "{file}+{:#x}",
                address.wrapping_sub(image.map_or(0, |image| image.bias))
            ),
            None => format!("{address:#x}"),
        }
    }
}
