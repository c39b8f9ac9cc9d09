"""The attributes that hold one value at a time, and the words by which texts tell them.

A noun may be told with any value (a phone number, a deadline), or only with one that names something: "Ann's manager
is Dana" tells who it is, "Ann's manager is ill" and "Ann's bank is in Oslo" do not. What is told in two ways, "reports
to" and "manager is", is one attribute.
"""

from collections.abc import Sequence, Set

from dreamsvc.evidence.lexicon import GLUE, listed
from dreamsvc.evidence.quantities import is_number

LIVES_IN, WORKS_AT, REPORTS_TO, IS_MARRIED_TO = "lives in", "works at", "reports to", "is married to"
AGE, PRICE, SALARY, STATUS, WEIGHT = "age", "price", "salary", "status", "weight"

# Verb and the word after it.
VERBS = {
    (verb, link): attribute
    for attribute, verbs, links in (
        (LIVES_IN, "live lives living reside resides residing moved relocated", "in at to"),
        (WORKS_AT, "work works working employed", "at for"),
        (WORKS_AT, "employed", "by"),
        ("works as", "work works working employed", "as"),
        ("studies at", "study studies studying enrolled", "at"),
        (IS_MARRIED_TO, "married engaged", "to"),
        ("is located in", "based located situated headquartered", "in at"),
        (REPORTS_TO, "report reports reporting", "to"),
        (REPORTS_TO, "managed supervised", "by"),
    )
    for verb in verbs.split()
    for link in links.split()
}
# Before a number.
AMOUNTS = {
    verb: attribute
    for attribute, verbs in ((WEIGHT, "weighs weigh"), (PRICE, "costs cost"), (SALARY, "earns earn"))
    for verb in verbs.split()
}

_NOUNS = """
name surname nickname username age birthday birthdate height weight size address phone number email mail password pin
passcode plan subscription tier status state deadline budget price cost salary income rent job title role position
occupation profession hometown home residence capital version port url host timezone colour color date time location
venue place headquarters score rating balance limit quota goal target priority severity stage phase mode level rank
diagnosis dosage dose seat gate room floor temperature speed city
"""
# Who is it, by name. Anybody has several brothers, friends, colleagues or clients; of these, one at a time.
_PEOPLE = """
employer boss manager supervisor landlord landlady husband wife spouse partner fiance fiancee girlfriend boyfriend owner
leader ceo cto cfo coo president chairman chairwoman chair captain coach mayor principal director assignee
"""
# The same of people whom many have: "the teacher is Ann" may be told of as many teachers as there are.
_SOMEBODYS = """
dentist doctor physician paediatrician pediatrician gynaecologist gynecologist cardiologist dermatologist optician
optometrist therapist psychologist psychiatrist physiotherapist midwife caregiver lawyer attorney solicitor notary
accountant bookkeeper teacher tutor trainer instructor mentor advisor adviser mechanic plumber electrician vet
veterinarian hairdresser barber stylist nanny childminder agent broker banker gardener cleaner housekeeper
"""
_THINGS = "car bank gym school university college church parish team kindergarten insurer model"

_THING = frozenset(listed(_THINGS))
_NAMED = frozenset(listed(_PEOPLE + _SOMEBODYS + _THINGS)) | {"home", "residence"}
_OWNED = frozenset(listed(_SOMEBODYS + _THINGS))
_NUMBERED = frozenset(listed("age weight price cost salary"))
_ONE_VALUED = _NAMED | frozenset(_NOUNS.split())
ADJECTIVES = frozenset(listed("favourite favorite fav current primary main default preferred"))

# Nouns that tell an attribute that is told in another way too.
TOLD_BY = {
    noun: attribute
    for attribute, nouns in (
        (REPORTS_TO, "manager boss supervisor"),
        (WORKS_AT, "employer"),
        (LIVES_IN, "home residence"),
        (IS_MARRIED_TO, "spouse husband wife"),
        (PRICE, "price cost"),
        (WEIGHT, "weight"),
        (SALARY, "salary"),
        (AGE, "age"),
        (STATUS, "status"),
    )
    for noun in nouns.split()
}

# Which of them what is worked on may have: each puts an end to the one before.
_STATUSES = """
open opened reopened closed shut pending paused suspended stalled blocked ongoing overdue postponed delayed planned
scheduled started submitted accepted approved disapproved rejected refused declined denied cancelled canceled
completed complete incomplete finished unfinished done resolved fixed merged deployed released launched archived
abandoned shipped dispatched delivered
"""
_STATUS_WORDS = frozenset(_STATUSES.split())
_STATUS_PHRASES = frozenset(
    tuple(phrase.split())
    for phrase in (
        "on track",
        "on hold",
        "on ice",
        "at risk",
        "in progress",
        "in review",
        "under review",
        "under way",
        "behind schedule",
        "ahead of schedule",
        "on schedule",
        "out for delivery",
    )
)
_OF_ONE_MEANING = {"done": "completed", "refused": "rejected", "declined": "rejected", "denied": "rejected"}

_PARTS_OF = frozenset(listed("of for in at on"))
_ARTICLES = frozenset(listed("a an the called named"))
# Inside names of people and houses, written small.
_FAMILY_PARTICLES = frozenset(listed("van von de di da la le al el bin ibn du dos zu"))
_PARTICLES = _FAMILY_PARTICLES | {"of", "the", "der", "den"}
_TITLES = frozenset(listed("dr doctor mr mrs ms miss prof professor sir madam pastor father sister brother st saint"))
# Capitalised, and yet they tell what somebody is like.
_ORIGINS = frozenset(
    listed("""
    african american arab asian australian austrian belgian brazilian british canadian chinese czech danish dutch
    english european finnish french german greek hungarian indian irish israeli italian japanese korean mexican
    norwegian polish portuguese romanian russian scottish spanish swedish swiss thai turkish ukrainian vietnamese welsh
    catholic christian jewish muslim protestant
    """)
)


def noun(phrase: Sequence[str]) -> str | None:
    """The word that says what the phrase is about, where that has one value at a time; empty if an adjective says so.

    It is the last word before any "of" or "for". None where nothing says so, or where it may be anybody's.
    """
    cut = next((at for at, word in enumerate(phrase) if word in _PARTS_OF), len(phrase))
    first = phrase[:cut]
    if not first or "one" in first:
        return None
    if first[-1] not in _ONE_VALUED:
        return None if ADJECTIVES.isdisjoint(first) else ""
    if first[-1] in _OWNED and not any(word not in _ARTICLES for word in (*first[:-1], *phrase[cut + 1 :])):
        return None
    return first[-1]


def may_be(about: str, value: Sequence[str], names: Set[str]) -> bool:
    """Whether a value tells which one, or how much it is, and not what it is like or where."""
    if about in _NUMBERED:
        return any(map(is_number, value))
    return about not in _NAMED or _is_name(value, names) or (about in _THING and _is_make(value, names))


def has_a_place(about: str) -> bool:
    """Whether "is in Oslo" tells the value of it."""
    return about not in _NAMED or about in ("home", "residence")


def is_status(value: Sequence[str]) -> bool:
    if len(value) != 1:
        return tuple(value) in _STATUS_PHRASES
    return value[0] in _STATUS_WORDS or value[0].removeprefix("un") in _STATUS_WORDS


def in_one_wording(attribute: str, value: Sequence[str]) -> Sequence[str]:
    """Of an age the years alone, of a status one word for each meaning."""
    if attribute == AGE:
        return [word.removesuffix(" year") for word in value if word != "old"]
    if attribute == STATUS and len(value) == 1:
        return [_OF_ONE_MEANING.get(value[0], value[0])]
    return value


def _is_name(value: Sequence[str], names: Set[str]) -> bool:
    said = list(value)
    while said and said[0] in _ARTICLES:
        del said[0]
    if not said or (len(said) == 1 and said[0] in _ORIGINS):
        return False
    if said[0] in _TITLES and len(said) > 1:
        return True
    if said[0] not in names and said[0] not in _FAMILY_PARTICLES and not is_number(said[0]):
        return False
    return not names.isdisjoint(said) and all(
        word in names or word in _PARTICLES or word in _TITLES or is_number(word) for word in said
    )


def _is_make(value: Sequence[str], names: Set[str]) -> bool:
    """A blue Saab."""
    return value[0] in ("a", "an") and value[-1] in names and GLUE.isdisjoint(value[1:])
