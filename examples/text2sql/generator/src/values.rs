//! The words from which names are made. Few and common on purpose: a tokenizer of a thousand tokens shall learn them and a
//! small model shall learn to copy them. No apostrophes, so that no literal needs escaping.

/// Countries, each with its cities.
pub const COUNTRIES: [(&str, [&str; 6]); 16] = [
    ("Portugal", ["Lisbon", "Porto", "Braga", "Faro", "Coimbra", "Aveiro"]),
    ("Spain", ["Madrid", "Seville", "Malaga", "Bilbao", "Valencia", "Toledo"]),
    ("France", ["Paris", "Lyon", "Nantes", "Lille", "Rennes", "Dijon"]),
    ("Italy", ["Rome", "Milan", "Turin", "Genoa", "Verona", "Pisa"]),
    ("Germany", ["Berlin", "Hamburg", "Bremen", "Cologne", "Dresden", "Leipzig"]),
    ("Austria", ["Vienna", "Graz", "Linz", "Salzburg", "Villach", "Wels"]),
    ("Poland", ["Warsaw", "Krakow", "Gdansk", "Lublin", "Torun", "Poznan"]),
    ("Sweden", ["Stockholm", "Uppsala", "Malmo", "Lund", "Vaxjo", "Kalmar"]),
    ("Norway", ["Oslo", "Bergen", "Trondheim", "Bodo", "Molde", "Hamar"]),
    ("Denmark", ["Copenhagen", "Aarhus", "Odense", "Aalborg", "Ribe", "Vejle"]),
    ("Ireland", ["Dublin", "Cork", "Galway", "Sligo", "Ennis", "Navan"]),
    ("England", ["London", "Leeds", "Bath", "York", "Dover", "Oxford"]),
    ("Canada", ["Toronto", "Calgary", "Ottawa", "Halifax", "Regina", "Victoria"]),
    ("Japan", ["Tokyo", "Osaka", "Kyoto", "Nagoya", "Sapporo", "Kobe"]),
    ("Brazil", ["Recife", "Natal", "Manaus", "Santos", "Belem", "Goiania"]),
    ("Australia", ["Sydney", "Perth", "Darwin", "Hobart", "Cairns", "Geelong"]),
];

/// First names of customers and employees.
pub const FIRST_NAMES: [&str; 28] = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Karen", "Leo", "Maria",
    "Noah", "Olivia", "Paul", "Rosa", "Simon", "Tina", "Victor", "Wendy", "Oscar", "Laura", "Martin", "Nina", "Peter",
    "Sarah", "Thomas",
];

/// Last names of customers and employees.
pub const LAST_NAMES: [&str; 28] = [
    "Adams", "Baker", "Carter", "Dixon", "Evans", "Fisher", "Green", "Hall", "Irving", "Jones", "Keller", "Lewis",
    "Miller", "Nelson", "Owens", "Parker", "Quinn", "Reed", "Smith", "Turner", "Vance", "Walker", "Young", "Brown",
    "Cooper", "Foster", "Morris", "Wood",
];

/// Categories, each with the nouns of its products.
pub const CATEGORIES: [(&str, [&str; 6]); 12] = [
    ("Furniture", ["Table", "Chair", "Shelf", "Desk", "Bench", "Cabinet"]),
    ("Kitchen", ["Kettle", "Pan", "Bowl", "Plate", "Mug", "Knife"]),
    ("Garden", ["Spade", "Planter", "Hose", "Rake", "Fence", "Bucket"]),
    ("Lighting", ["Lamp", "Lantern", "Candle", "Torch", "Spotlight", "Chandelier"]),
    ("Toys", ["Puzzle", "Doll", "Robot", "Kite", "Train", "Drum"]),
    ("Clothing", ["Shirt", "Jacket", "Scarf", "Hat", "Coat", "Sweater"]),
    ("Sports", ["Ball", "Racket", "Helmet", "Glove", "Bicycle", "Skate"]),
    ("Office", ["Pen", "Notebook", "Stapler", "Folder", "Ruler", "Marker"]),
    ("Bath", ["Towel", "Mirror", "Soap", "Brush", "Basket", "Mat"]),
    ("Music", ["Guitar", "Violin", "Flute", "Piano", "Trumpet", "Speaker"]),
    ("Travel", ["Suitcase", "Backpack", "Tent", "Pillow", "Umbrella", "Wallet"]),
    ("Pets", ["Collar", "Leash", "Cage", "Blanket", "Feeder", "Aquarium"]),
];

/// The first word of a product's name, in a third of the names.
pub const SIZES: [&str; 8] = ["Small", "Large", "Classic", "Modern", "Light", "Heavy", "Compact", "Deluxe"];

/// The word before the noun in a product's name.
pub const STYLES: [&str; 20] = [
    "Oak", "Pine", "Steel", "Copper", "Cotton", "Wool", "Silk", "Leather", "Glass", "Stone", "Red", "Blue", "Black",
    "White", "Yellow", "Silver", "Golden", "Purple", "Bamboo", "Ceramic",
];

/// The first word of a supplier's name.
pub const SUPPLIER_FIRST: [&str; 12] = [
    "River", "Harbor", "Summit", "Meadow", "Falcon", "Maple", "Cedar", "Crystal", "Pioneer", "Horizon", "Atlas",
    "Sunrise",
];

/// The last word of a supplier's name.
pub const SUPPLIER_LAST: [&str; 6] = ["Trading", "Supply", "Works", "Imports", "Partners", "Factory"];

/// Roles of employees: (singular as in the table, lowest and highest monthly salary).
pub const ROLES: [(&str, i64, i64); 7] = [
    ("cashier", 1800, 2700),
    ("clerk", 1900, 2900),
    ("driver", 2000, 3000),
    ("buyer", 2600, 4000),
    ("analyst", 3000, 4600),
    ("engineer", 3400, 5200),
    ("manager", 3800, 6000),
];

/// What can have become of an order.
pub const STATUSES: [&str; 5] = ["pending", "shipped", "delivered", "canceled", "returned"];

/// Months as in a question, with the number that stands in a date.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// First and last year of every date in the database.
pub const YEARS: (i64, i64) = (2020, 2024);
