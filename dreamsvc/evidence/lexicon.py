"""The few words whose meaning decides: what only glues, what denies, what is opposite, what measures, what counts.

English in full, the commonest negators of other languages, and Han numerals. Every table is looked up by case-folded
word; a word in none of them is content, and content that differs forbids a merge.
"""

import re


def listed(text: str) -> list[str]:
    return text.split()


# Words that may come and go without changing what is said.
_GLUE = """
a an the this that these those such of in on at to for with from by about as into onto upon and or but so then than
i me my mine myself we us our ours ourselves you your yours yourself he him his himself she her hers herself it its
itself they them their theirs themselves there here be am is are was were been being do does did done have has had
having will would shall should can could may might must who whom whose which what when where how why
just really very quite too also so well oh hey hi hello yeah yep yes ok okay actually honestly literally basically
simply please haha lol wow um uh ah hmm currently now already still even ever pretty totally definitely certainly
absolutely truly indeed anyway though however own one 's
的 了 吗 嗎 呢 啊 吧 呀 哦 很 是 は が を に へ で と の か ね よ
"""
GLUE = frozenset(_GLUE.split())

# These deny and say nothing else, so that "never eats" and "does not eat" are one.
_PURE_NEGATORS = """
not no never none neither nor without cannot
nicht kein keine keinen keinem keiner keines nie niemals ohne ne pas jamais nunca jamás não nem niet geen nooit
ikke inte aldrig не нет никогда без لا ليس नहीं
不 没 沒 無 无 未 勿
"""
PURE_NEGATORS = frozenset(_PURE_NEGATORS.split())
_NEGATORS = """
nobody nothing nowhere hardly barely rarely seldom formerly former ex
stop stopped stops stopping quit quits quitting cease ceased ceases fail failed fails refuse refused refuses
"""
NEGATORS = PURE_NEGATORS | frozenset(_NEGATORS.split())

# What is planned, possible, asked for or conditional. Words of one line say the same.
_MOODS = """
will shall
might may maybe perhaps possibly could
probably likely
would
should
must
if
unless
"""
MOODS = {word: line for line in _MOODS.split("\n") for word in line.split()}

_PERSONS = """
i me my mine myself we us our ours ourselves
you your yours yourself
he him his himself
she her hers herself
they them their theirs themselves
"""
PERSONS = {word: line.split()[0] for line in _PERSONS.strip().split("\n") for word in line.split()}
# Of these "her" may be somebody and may be whose.
OWNERS = frozenset(listed("my mine our ours your yours his her hers their theirs"))

# Each line is two sets of words that cannot stand for one another.
_OPPOSITES = """
like love enjoy adore | hate dislike detest despise loathe
hot warm | cold cool
up | down
on | off
in | out
to | from
with | without
for | against
and | or
before | after
above over | below under beneath
inside | outside
buy purchase | sell
accept approve | reject refuse decline deny
win | lose
open | close closed shut
start begin | stop end finish
more most | less least fewer fewest
many much | few little
increase rise grow gain | decrease fall shrink drop
always | never sometimes rarely
often frequently | rarely seldom
all every each both | none some no any
true | false
right correct | wrong incorrect left
happy glad | sad unhappy upset
married | single divorced unmarried engaged separated
allow permit enable | forbid prohibit ban prevent disable
enabled active on | disabled inactive off
import | export
input | output
male man boy | female woman girl
brother | sister
mother mom mum | father dad
husband | wife
son | daughter
aunt | uncle
north northern | south southern
east eastern | west western
morning | evening afternoon night
day | night
early earlier | late later
first | last
previous | next
old older oldest | new newer newest young younger youngest
high higher | low lower
long longer | short shorter
big large bigger larger | small little tiny smaller
fast quick faster | slow slower
rich | poor
public | private
alive live living | dead die
pass | fail
present | absent
agree | disagree
arrive come | leave go
push | pull
lend | borrow
give send | take receive get
remember | forget
sick ill | healthy well
easy easier | hard difficult harder
cheap cheaper | expensive pricier
safe | dangerous unsafe
full | empty
same | different
best better good great | worst worse bad terrible awful
success succeed | failure fail
strong stronger | weak weaker
maximum max | minimum min
add | remove delete
login | logout
online | offline
vegetarian vegan | carnivore omnivore
black | white
careful | careless
useful helpful | useless
minor | major
employed | unemployed fired
available | unavailable busy
guilty | innocent
optional | required mandatory
internal | external
upper | lower
"""

# Each line is one meaning. Only pairs that stay true when exchanged in any sentence we can think of.
_SYNONYMS = """
buy purchase
begin start commence
big large
kid child
kids children
mom mother mum
dad father
movie film
photo picture pic
phone telephone
bike bicycle
tv television
car automobile
reside live
relocate move
holiday vacation
fridge refrigerator
like enjoy
love adore
fast quick rapid
happy glad
sofa couch
lawyer attorney
doctor physician
help assist
gray grey
check cheque
awesome amazing great wonderful fantastic fabulous terrific incredible
beautiful gorgeous
thanks thank
approximately roughly around
finish complete
whilst while
toward towards
among amongst
favourite favorite fav fave preferred
programme program
alright okay
apartment flat
mobile cellphone cell
tired exhausted
grandma grandmother
grandpa grandfather
"""

# base, then its forms; the forms that speak of the past after "/".
_IRREGULAR = """
go goes going / went gone | eat eats / ate eaten | buy buys / bought | take takes / took taken
give gives / gave given | make makes / made | see sees / saw seen | come comes / came | get gets / got gotten
have has / had | say says / said | tell tells / told | think thinks / thought | know knows / knew known
find finds / found | leave leaves / left | feel feels / felt | keep keeps / kept | begin begins / began begun
write writes / wrote written | run runs / ran | meet meets / met | pay pays / paid | send sends / sent
teach teaches / taught | bring brings / brought | catch catches / caught | sell sells / sold | win wins / won
lose loses / lost | speak speaks / spoke spoken | drive drives / drove driven | drink drinks / drank drunk
sing sings / sang sung | swim swims / swam swum | sleep sleeps / slept | spend spends / spent | build builds / built
grow grows / grew grown | hold holds / held | hear hears / heard | sit sits / sat | stand stands / stood
wear wears / wore worn | break breaks / broke broken | choose chooses / chose chosen | fall falls / fell fallen
fly flies / flew flown | forget forgets / forgot forgotten | ride rides / rode ridden | draw draws / drew drawn
become becomes / became | bite bites / bit bitten | lend lends / lent | steal steals / stole stolen
throw throws / threw thrown | understand understands / understood | lead leads / led
man men | woman women | child children | person people | foot feet | tooth teeth | mouse mice | wife wives | life lives
knife knives | leaf leaves | half halves | shelf shelves | wolf wolves
"""

NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        listed("""zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen""")
    )
} | {
    word: value * 10
    for value, word in enumerate(listed("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)
}
SCALES = {"dozen": 12, "hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SCALE_MARKS = SCALES | {"k": 1_000, "mn": 10**6, "mio": 10**6, "bn": 10**9}
ORDINALS = {
    word: f"{value}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(value, 'th') }"
    for value, word in enumerate(
        listed("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"), start=1
    )
}
HAN_DIGITS = {char: value for value, char in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "兩": 2}
HAN_SCALES = {"十": 10, "百": 100, "千": 1_000, "万": 10_000, "萬": 10_000, "亿": 10**8, "億": 10**8}

# symbol | base symbol and how many of it | spellings
_UNITS = """
km | m 1000 | kilometer kilometers kilometre kilometres kms 公里
m | m 1 | meter meters metre metres 米
cm | m 1/100 | centimeter centimeters centimetre centimetres 厘米
mm | m 1/1000 | millimeter millimeters millimetre millimetres 毫米
mile | | miles mi 英里
ft | | feet foot
inch | | inches
yard | | yards yd
kg | g 1000 | kilo kilos kilogram kilograms kilogramme kilogrammes kgs 公斤 千克
g | g 1 | gram grams gramme grammes 克
mg | g 1/1000 | milligram milligrams
tonne | g 1000000 | tonnes
lb | | lbs
oz | | ounce ounces
l | l 1 | liter liters litre litres 升
ml | l 1/1000 | milliliter milliliters millilitre millilitres
cl | l 1/100 | centiliter centilitre
gallon | | gallons
s | s 1 | sec secs second seconds 秒
ms | s 1/1000 | millisecond milliseconds
min | s 60 | mins minute minutes 分钟 分鐘
h | s 3600 | hr hrs hour hours 小时 小時
day | | days 天 日
week | | weeks wk wks
month | | months
year | | years yr yrs yo 年
% | | percent pct
$ | | dollar dollars usd buck bucks
€ | | euro euros eur
£ | | gbp quid
¥ | | yen jpy
元 | | yuan rmb cny
₹ | | rupee rupees inr
chf | | franc francs
mph | |
kmh | | kph
°c | | celsius
°f | | fahrenheit
° | | degree degrees
kb | |
mb | | megabyte megabytes
gb | | gigabyte gigabytes
tb | | terabyte terabytes
hz | | hertz
khz | |
mhz | |
ghz | |
kw | |
kwh | |
w | | watt watts
v | | volt volts
kcal | | calories calorie cal
"""

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar",
            "february feb februar",
            "march mar märz",
            "april apr",
            "may mai",
            "june jun juni",
            "july jul juli",
            "august aug",
            "september sept sep",
            "october oct oktober",
            "november nov",
            "december dec dezember",
        ),
        start=1,
    )
    for name in names.split()
}
_WEEKDAYS = """
monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays saturdays sundays
tue tues thu thur thurs fri weekday weekend
"""
WEEKDAYS = frozenset(_WEEKDAYS.split())
TIME_WORDS = (
    frozenset(listed("today tomorrow yesterday tonight noon midnight morning evening afternoon night"))
    | WEEKDAYS
    | ({name for name in MONTHS if len(name) > 4}.union(listed("may june july summer winter autumn")))
)

# "'m" and the like are opened, so that "I'm" and "I am" are the same two words.
CONTRACTIONS = {
    "cannot": ("can", "not"),
    "can't": ("can", "not"),
    "won't": ("will", "not"),
    "shan't": ("shall", "not"),
    "ain't": ("is", "not"),
    "let's": ("let", "us"),
    "gonna": ("going", "to"),
    "wanna": ("want", "to"),
    "gotta": ("have", "to"),
    "cant": ("can", "not"),
    "percents": ("percent",),
} | {
    f"{word}nt": (word, "not")
    for word in listed("do does did is was are were could would should has have had need must")
}
ENDINGS = {"'m": "am", "'re": "are", "'ve": "have", "'ll": "will"}
IS_AFTER = frozenset(listed("it he she that there what who where here how this everything"))  # "it's" is "it is"


def _two_sided() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for line in _OPPOSITES.strip().split("\n"):
        left, right = (side.split() for side in line.split("|"))
        for word in left:
            found.setdefault(word, set()).update(right)
        for word in right:
            found.setdefault(word, set()).update(left)
    return {word: frozenset(others) for word, others in found.items()}


def _forms() -> tuple[dict[str, str], frozenset[str]]:
    base_of: dict[str, str] = {}
    past: set[str] = set()
    for entry in re.split(r"[|\n]", _IRREGULAR.strip()):
        present, _, gone = entry.partition("/")
        base, *rest = present.split()
        base_of |= dict.fromkeys([*rest, *gone.split()], base)
        past.update(gone.split())
    return base_of, frozenset(past)


def _units() -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    symbol_of: dict[str, str] = {}
    metric: dict[str, tuple[str, str]] = {}
    for line in _UNITS.strip().split("\n"):
        symbol, scale, spellings = (part.strip() for part in line.split("|"))
        symbol_of |= dict.fromkeys([symbol, *spellings.split()], symbol)
        if scale:
            base, factor = scale.split()
            metric[symbol] = (base, factor)
    return symbol_of, metric


OPPOSITES = _two_sided()
SYNONYMS = {word: line.split()[0] for line in _SYNONYMS.strip().split("\n") for word in line.split()}
BASES, PAST_FORMS = _forms()
UNITS, METRIC = _units()
