"""The words and templates of the planted memory: `{city}` is drawn from the list of that name, `{city2}` is another."""


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _listed(
    """
    Alice Amir Anna Arthur Beatrice Bruno Camille Carlos Chloe Clara Daniel Diana Edgar Elena Emil Esther Felix
    Fiona Gabriel Greta Hannah Hugo Ingrid Irene Ivan Jasmine Jonas Julia Karim Laura Leon Lydia Marco Martha
    Miriam Nadia Nils Nora Oscar Paula Peter Philippa Ralph Rosa Samuel Sofia Theo Valerie Victor Yusuf
    """
)
SURNAMES = _listed(
    """
    Abbott Adler Almeida Andersson Barnes Becker Bianchi Brandt Campbell Carter Castillo Dalton Duarte Eriksen
    Farrell Fischer Fontaine Garcia Gibson Hansen Harper Hoffmann Ibrahim Jansen Jensen Kaplan Keller Khan
    Kowalski Lambert Larsen Lindqvist Lopez Marchetti Meyer Moreau Nakamura Novak Okafor Olsen Osborne Palmer
    Pereira Quinn Ramirez Richter Rossi Salazar Schmidt Silva Sorensen Takahashi Tanner Ueda Vasquez Vogel Walsh
    Weber Whitaker Zimmermann
    """
)

LISTS: dict[str, tuple[str, ...]] = {
    "city": (
        *("Lisbon", "Oslo", "Vienna", "Toronto", "Nairobi", "Kyoto", "Dublin", "Prague", "Lyon", "Seville"),
        *("Montreal", "Helsinki", "Porto", "Krakow", "Melbourne", "Bristol", "Geneva", "Naples"),
    ),
    "org": (
        *("Northwind Logistics", "Bluestone Bank", "Harbour Hospital", "Maple Software", "Redwood Insurance"),
        *("Silver Lake Brewery", "Summit Airlines", "Green Valley Farms", "Cobalt Robotics", "Lantern Publishing"),
        *("Granite Construction", "Meadow Pharmacy"),
    ),
    "food": (
        *("mushroom soup", "lentil curry", "grilled salmon", "pumpkin risotto", "potato pancakes", "goat cheese"),
        *("black olives", "apple pie", "spinach lasagne", "roasted chestnuts", "pickled cucumbers", "peanut butter"),
    ),
    "plant": ("tomatoes", "basil", "lavender", "roses", "chili peppers", "strawberries", "mint", "sunflowers", "ivy"),
    "thing": (
        *("stamps", "vinyl records", "antique maps", "fountain pens", "porcelain cups", "old cameras", "board games"),
        *("comic books", "wooden toys", "sea shells", "silver coins"),
    ),
    "instrument": ("violin", "accordion", "cello", "clarinet", "harp", "trumpet", "banjo", "piano", "flute", "drums"),
    "animal": ("parrot", "greyhound", "hamster", "tortoise", "kitten", "rabbit", "donkey", "canary", "ferret", "goat"),
    "hobby": (
        *("pottery", "archery", "rock climbing", "bird watching", "calligraphy", "fencing", "beekeeping", "sailing"),
        *("woodcarving", "juggling"),
    ),
    "job": (
        *("carpenter", "pharmacist", "translator", "pilot", "librarian", "plumber", "surveyor", "journalist"),
        *("geologist", "baker", "gardener", "goldsmith"),
    ),
    "place": ("museum", "train station", "harbour", "library", "market hall", "botanical garden", "theatre", "stadium"),
    "room": ("kitchen", "hallway", "bedroom", "garage", "bathroom", "study", "attic", "cellar"),
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "month": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    "year": ("2009", "2011", "2012", "2014", "2016", "2017", "2019", "2021"),
    "day": ("3", "5", "8", "11", "14", "17", "21", "24", "26", "28"),
    "small": ("3", "4", "6", "7", "8", "9", "12", "14", "15", "18"),
    "large": ("140", "175", "220", "260", "310", "380", "450", "520", "640", "870"),
    "clock": ("7:15", "8:30", "9:45", "10:20", "11:30", "13:00", "14:45", "16:10", "18:30"),
    "colour": ("purple", "cyan", "green", "orange", "crimson", "turquoise", "beige", "yellow", "navy", "silver"),
    "book": ("a novel about whales", "a history of salt", "a travel guide", "poems about winter", "a book on chess"),
    "illness": ("asthma", "migraine", "hay fever", "a sprained ankle", "back pain", "a broken wrist"),
    "vehicle": ("bicycle", "tram", "ferry", "motor scooter", "night train", "cable car"),
    "device": ("dishwasher", "printer", "laptop", "heating", "washing machine", "coffee machine", "telescope"),
    "subject": ("astronomy", "economics", "marine biology", "linguistics", "statistics", "architecture", "philosophy"),
    "project": (
        *("Falcon", "Juniper", "Compass", "Aurora", "Pelican", "Saffron", "Monsoon", "Basalt", "Orchid", "Tundra"),
        *("Velvet", "Quartz", "Ember", "Thistle", "Lagoon", "Meteor"),
    ),
    "status": ("on track", "delayed", "approved", "cancelled", "under review", "completed", "blocked"),
    "phone": ("555 0132", "555 0178", "555 0199", "555 0143", "555 0161", "555 0114", "555 0185"),
    "mailbox": ("hello", "contact", "inbox", "desk", "office", "letters", "mail"),
    "password": ("bluebird", "sandcastle", "marzipan", "snowflake", "thunder", "peppermint", "lighthouse"),
    "zh_city": ("北京", "上海", "广州", "成都", "杭州", "西安", "南京", "昆明"),
    "zh_food": ("牛肉面", "小笼包", "麻婆豆腐", "宫保鸡丁", "酸辣汤", "烤鸭"),
    "ja_city": ("東京", "大阪", "京都", "札幌", "福岡", "名古屋", "仙台", "神戸"),
    "ja_food": ("味噌ラーメン", "カレーライス", "親子丼", "たこ焼き", "抹茶アイス"),
    "ko_city": ("서울", "부산", "대구", "인천", "광주", "제주"),
    "ko_food": ("비빔밥", "김치찌개", "불고기", "떡볶이", "냉면"),
}

PLAIN = (
    "{who} grows {plant} on the balcony and waters them every {weekday}.",
    "{who} collects {thing} that come from flea markets in {city}.",
    "{who} learned to play the {instrument} at the age of {small}.",
    "{who} keeps a {animal} called Biscuit that is {small} years old.",
    "{who} is taking a course in {hobby} at the {place} this {month}.",
    "{who} cooks {food} for the neighbours once a month.",
    "{who} worked as a {job} in {city} before joining {org}.",
    "{who} takes the {vehicle} to {city} on {weekday} mornings.",
    "{who} borrowed {book} from the library in {city}.",
    "{who} suffers from {illness} and avoids long flights.",
    "{who} studied {subject} in {city} and graduated in {year}.",
    "{who} painted the {room} in {colour} during the summer holidays.",
    "{who} ordered a new {device} because the old one kept breaking down.",
    "{who} met an old classmate at the {place} in {city}.",
    "{who} is allergic to {food} and carries medicine all the time.",
    "{who} dreams of opening a small shop for {thing} in {city}.",
    "{who} volunteers at the {place} on {weekday} evenings.",
    "{who} ran a marathon in {city} in under {small} hours.",
    "{who} writes a newsletter about {hobby} with {large} readers.",
    "{who} inherited {large} {thing} from an aunt in {city}.",
    "{who} teaches {subject} to evening students at the {place}.",
    "{who} wants to visit {city} again to photograph the {place}.",
    "{who} repaired the {device} with a spare part from {org}.",
    "{who} bought tickets for the {instrument} concert on {day} {month}.",
    "{who} negotiated a contract between {org} and a supplier from {city}.",
    "{who} prefers {food} over {food2} when guests come for dinner.",
    "{who} gave a talk on {subject} to {large} people in {city}.",
    "{who} trains a {animal} for a competition in {month}.",
    "{who} found a wallet near the {place} and brought it to the police.",
    "{who} planted {plant} behind the {room} window in {month}.",
    "{who} lost a bet about {hobby} and had to cook {food}.",
    "{who} reads {book} on the {vehicle} every evening.",
    "{who} rents a workshop next to the {place} for {large} euros a month.",
    "{who} saw the northern lights on a trip with colleagues from {org}.",
    "{who} plays the {instrument} in a band that was founded in {year}.",
    "{who} has a cousin in {city} who works as a {job}.",
    "{who} prepares for an exam in {subject} on {day} {month}.",
    "{who} sold the {device} to a {job} from {city}.",
)

# The same said in another order.
TURNED = (
    ("In {month} {who} swam across the lake near {city}.", "{who} swam across the lake near {city} in {month}."),
    ("When it rains, {who} takes the tram to the {place}.", "{who} takes the tram to the {place} when it rains."),
    (
        "Because the {device} broke, {who} called a technician.",
        "{who} called a technician because the {device} broke.",
    ),
    ("{who} packed bread, cheese and apples for the trip.", "{who} packed apples, bread and cheese for the trip."),
    ("On {weekday} {who} plays tennis with Robin.", "{who} plays tennis with Robin on {weekday}."),
    ("At the {place} {who} ordered {food} for everyone.", "{who} ordered {food} for everyone at the {place}."),
    (
        "{who} likes {hobby}. The {animal} is called Pepper.",
        "The {animal} is called Pepper. {who} likes {hobby}.",
    ),
    ("Yesterday {who} sold the {device} to a neighbour.", "{who} sold the {device} to a neighbour yesterday."),
    ("{who} speaks Danish and Portuguese at home.", "{who} speaks Portuguese and Danish at home."),
    ("After lunch {who} walks to the {place}.", "{who} walks to the {place} after lunch."),
)

# Family and given names, which stand side by side.
CJK_NAMES = {
    "zh": (
        _listed("王 李 张 刘 陈 杨 赵 黄 周 吴 徐 孙"),
        _listed("小明 娜 伟 静 帆 敏 磊 倩 丽 浩 琳 涛"),
    ),
    "ja": (
        _listed("田中 鈴木 佐藤 高橋 伊藤 渡辺 山本 中村 小林 加藤"),
        _listed("健一 愛 翔 美咲 大輔 由美 拓也 彩 誠 舞"),
    ),
    "ko": (
        _listed("김 이 박 최 정 강 조 윤 장 임"),
        _listed("민준 서연 지훈 수빈 하윤 도현 은우 지민 서준 채원"),
    ),
}

CJK_COPIES: dict[str, tuple[tuple[str, str], ...]] = {
    "CJK punctuation": (
        ("{zh_who}住在{zh_city}，每天坐地铁上班。", "{zh_who}住在{zh_city},每天坐地铁上班"),
        ("{zh_who}最爱吃的菜是{zh_food}。", "{zh_who}最爱吃的菜是「{zh_food}」！"),
        ("{ja_who}さんは{ja_city}で働いていて、毎朝走ります。", "{ja_who}さんは{ja_city}で働いていて毎朝走ります"),
        ("{ja_who}さんは{ja_food}が大好きです。", "{ja_who}さんは{ja_food}が大好きです！！"),
        (
            "{ko_who} 씨는 {ko_city}에서 태어났고, 지금은 요리사이다.",
            "{ko_who} 씨는 {ko_city}에서 태어났고 지금은 요리사이다",
        ),
        ("{ko_who} 씨는 {ko_food}을 자주 만든다.", "{ko_who} 씨는 {ko_food}을 자주 만든다…"),
    ),
    "CJK white space": (
        ("{zh_who}去年在{zh_city}买了一套房子。", "{zh_who} 去年 在{zh_city} 买了 一套 房子 。"),
        ("{zh_who}周末喜欢做{zh_food}。", "\u3000{zh_who}周末喜欢做{zh_food}。\n"),
        ("{ja_who}さんは来月{ja_city}に引っ越します。", "{ja_who}さんは 来月 {ja_city}に 引っ越します。"),
        ("{ja_who}さんの昼ご飯は{ja_food}でした。", "{ja_who}さんの昼ご飯は\u3000{ja_food}でした。"),
        ("{ko_who} 씨는 주말마다 {ko_city}로 여행을 간다.", "{ko_who}  씨는 주말마다\t{ko_city}로  여행을 간다."),
        ("{ko_who} 씨의 점심은 {ko_food}이었다.", " {ko_who} 씨의  점심은 {ko_food}이었다. "),
    ),
    "CJK width": (
        ("{zh_who}的车牌号是ABC123，停在{zh_city}。", "{zh_who}的车牌号是ＡＢＣ１２３，停在{zh_city}。"),
        ("{zh_who}在{zh_city}的办公室是B座402室。", "{zh_who}在{zh_city}的办公室是Ｂ座４０２室。"),
        ("{ja_who}さんは{ja_city}のカフェでコーヒーを飲みます。", "{ja_who}さんは{ja_city}のｶﾌｪでｺｰﾋｰを飲みます。"),
        ("{ja_who}さんの部屋は{ja_city}ホテルの305号室です。", "{ja_who}さんの部屋は{ja_city}ホテルの３０５号室です。"),
        ("{ko_who} 씨의 {ko_city} 사무실은 KTX역 옆이다.", "{ko_who} 씨의 {ko_city} 사무실은 ＫＴＸ역 옆이다."),
        ("{ko_who} 씨는 {ko_city}행 버스 720번을 탄다.", "{ko_who} 씨는 {ko_city}행 버스 ７２０번을 탄다."),
    ),
    "CJK word order": (
        ("星期一{zh_who}去{zh_city}出差。", "{zh_who}星期一去{zh_city}出差。"),
        ("{zh_who}昨天在{zh_city}参加了一场婚礼。", "昨天{zh_who}在{zh_city}参加了一场婚礼。"),
        ("{zh_who}会弹钢琴。{zh_who}住在{zh_city}郊区。", "{zh_who}住在{zh_city}郊区。{zh_who}会弹钢琴。"),
        ("昨日{ja_who}さんは{ja_city}で映画を見ました。", "{ja_who}さんは昨日{ja_city}で映画を見ました。"),
        ("{ja_who}さんは犬が好きです。仕事は{ja_city}です。", "仕事は{ja_city}です。{ja_who}さんは犬が好きです。"),
        ("어제 {ko_who} 씨는 {ko_city}에서 친구를 만났다.", "{ko_who} 씨는 어제 {ko_city}에서 친구를 만났다."),
    ),
}

# Pairs of templates that differ in what is told.
NEAR_MISSES: dict[str, tuple[tuple[str, str], ...]] = {
    "colour": (
        ("{who}'s favourite colour is {colour}.", "{who}'s favourite colour is {colour2}."),
        ("{who} drives a {colour} van to work.", "{who} drives a {colour2} van to work."),
        ("{who} painted the {room} {colour}.", "{who} painted the {room} {colour2}."),
        ("The cover of {who}'s notebook is {colour}.", "The cover of {who}'s notebook is {colour2}."),
    ),
    "title": (
        ("{who} is the CEO of {org}.", "{who} is the CTO of {org}."),
        ("{who} was appointed CFO of {org}.", "{who} was appointed COO of {org}."),
        ("{who} is a professor at the university of {city}.", "{who} is a lecturer at the university of {city}."),
        ("{who} is the treasurer of the rowing club.", "{who} is the secretary of the rowing club."),
        ("{who} works as a nurse at {org}.", "{who} works as a surgeon at {org}."),
        ("{who} was the best man at the wedding.", "{who} was the groom at the wedding."),
    ),
    "number": (
        ("{who} has {small} unread invoices from {org}.", "{who} has {small2} unread invoices from {org}."),
        ("The warehouse that {who} runs has {large} shelves.", "The warehouse that {who} runs has {large2} shelves."),
        ("{who} lives at {large} Garden Street.", "{who} lives at {large2} Garden Street."),
        ("{who}'s locker has the code 7{large}.", "{who}'s locker has the code 7{large2}."),
        ("{who} scored three goals in the final.", "{who} scored four goals in the final."),
    ),
    "date": (
        ("{who}'s passport expires on {day} {month} {year}.", "{who}'s passport expires on {day2} {month} {year}."),
        ("{who} was born in {month} {year}.", "{who} was born in {month2} {year}."),
        ("{who} has an appointment on {weekday} at {clock}.", "{who} has an appointment on {weekday2} at {clock}."),
        ("{who} moved to {city} in {year}.", "{who} moved to {city} in {year2}."),
        ("{who}'s flight to {city} leaves at {clock}.", "{who}'s flight to {city} leaves at {clock2}."),
    ),
    "name": (
        ("{who} is married to {other}.", "{who} is married to Bernadette Fairchild."),
        ("{who} met Robin at the {place} in {city}.", "{who} met Casey at the {place} in {city}."),
        ("{who} flew to {city} with a colleague.", "{who} flew to {city2} with a colleague."),
        ("{who} signed the contract with {org}.", "{who} signed the contract with {org2}."),
        ("{who} ordered the {device} on {weekday}.", "{other} ordered the {device} on {weekday}."),
    ),
    "unit": (
        ("{who} walks {small} km every morning.", "{who} walks {small} miles every morning."),
        ("{who}'s suitcase weighs {small} kg.", "{who}'s suitcase weighs {small} pounds."),
        ("{who} paid {large} euros for the {device}.", "{who} paid {large} dollars for the {device}."),
        ("{who} waited {small} minutes at the {place}.", "{who} waited {small} hours at the {place}."),
        ("The oven in {who}'s bakery is set to {large} °C.", "The oven in {who}'s bakery is set to {large} °F."),
        ("{who} bought {small} litres of paint.", "{who} bought {small} gallons of paint."),
    ),
    "negation": (
        ("{who} eats {food}.", "{who} does not eat {food}."),
        ("{who} has been to {city}.", "{who} has never been to {city}."),
        ("{who} can repair the {device}.", "{who} cannot repair the {device}."),
        ("{who} is coming to the party on {weekday}.", "{who} isn't coming to the party on {weekday}."),
        ("{who} agreed to the offer of {org}.", "{who} didn't agree to the offer of {org}."),
        ("{who} travels with the {animal}.", "{who} travels without the {animal}."),
    ),
    "antonym": (
        ("{who} loves {food}.", "{who} hates {food}."),
        ("{who} prefers the morning shift at {org}.", "{who} prefers the evening shift at {org}."),
        ("{who} arrived before the meeting at {org}.", "{who} arrived after the meeting at {org}."),
        ("{who} wants to increase the budget of {org}.", "{who} wants to decrease the budget of {org}."),
        ("{who} keeps the {animal} indoors.", "{who} keeps the {animal} outdoors."),
        ("{who} drinks coffee hot.", "{who} drinks coffee cold."),
        ("{who} bought shares of {org}.", "{who} sold shares of {org}."),
        ("{who} lives upstairs from the {place}.", "{who} lives downstairs from the {place}."),
        ("{who} asked for the cheapest {device}.", "{who} asked for the most expensive {device}."),
    ),
    "role": (
        ("{who} lent {other} a {device}.", "{other} lent {who} a {device}."),
        ("{who} is the boss of {other}.", "{other} is the boss of {who}."),
        ("{who} gave my {device} to you.", "{who} gave your {device} to me."),
    ),
}

# Kind: the older value, the newer one in some wordings, and the question.
UPDATES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "residence": (
        "{who} lives in {city}.",
        ("{who} lives in {city2} now.", "{who} moved to {city2}.", "{who} lives in {city2}."),
        "Where does {who} live?",
    ),
    "employer": (
        "{who} works at {org}.",
        ("{who} now works at {org2}.", "{who} works for {org2}.", "{who} is employed at {org2}."),
        "Where does {who} work?",
    ),
    "phone": (
        "{who}'s phone number is {phone}.",
        ("{who}'s phone number is {phone2}.", "{who}'s new phone number is {phone2}."),
        "What is {who}'s phone number?",
    ),
    "favourite colour": (
        "{who}'s favourite colour is {colour}.",
        ("{who}'s favourite colour is {colour2}.", "{who}'s favourite colour is now {colour2}."),
        "What is {who}'s favourite colour?",
    ),
    "manager": (
        "{who}'s manager is Dana Whitfield.",
        ("{who}'s manager is Morgan Ashby.", "{who}'s new manager is Morgan Ashby.", "{who} reports to Morgan Ashby."),
        "Who is {who}'s manager?",
    ),
    "e-mail": (
        "{who}'s email address is {mailbox}{large}@example.org.",
        ("{who}'s email address is {mailbox2}{large}@example.org.",),
        "What is {who}'s email address?",
    ),
    "project status": (
        "The status of {who}'s {project} project is {status}.",
        ("The status of {who}'s {project} project is {status2}.", "{who}'s {project} project is now {status2}."),
        "What is the status of {who}'s {project} project?",
    ),
    "deadline": (
        "The deadline of {who}'s thesis is {day} {month}.",
        ("The deadline of {who}'s thesis is {day2} {month2}.", "{who}'s thesis deadline moved to {day2} {month2}."),
        "When is the deadline of {who}'s thesis?",
    ),
    "meeting": (
        "{who}'s team meeting is on {weekday}.",
        ("{who}'s team meeting is on {weekday2}.", "{who}'s team meeting has been moved to {weekday2}."),
        "On which day is {who}'s team meeting?",
    ),
    "rent": (
        "The rent of {who}'s flat is {large} euros.",
        ("The rent of {who}'s flat is {large2} euros.", "The rent of {who}'s flat was changed to {large2} euros."),
        "How much is the rent of {who}'s flat?",
    ),
    "habit": (
        "{who} smokes.",
        ("{who} no longer smokes.", "{who} stopped smoking.", "{who} doesn't smoke anymore."),
        "Does {who} smoke?",
    ),
    "password": (
        "The Wi-Fi password of {who}'s office is {password}.",
        ("The Wi-Fi password of {who}'s office is {password2}.",),
        "What is the Wi-Fi password of {who}'s office?",
    ),
    "dentist": (
        "{who}'s dentist is Doctor Lang.",
        ("{who}'s dentist is Doctor Petrov.", "{who}'s dentist is now Doctor Petrov."),
        "Who is {who}'s dentist?",
    ),
}
