"""The words that prompts are made of, dealt into three families that share none."""

FAMILIES = ("loop", "dev", "test")
"""`loop` may enter a training loss, `dev` may guide choices, `test` is for the final number."""

VARIABLES = """
    value total count index result width height name path line text key item data mode size level
    state left right start stop first last limit offset buffer token node parent child depth score
    weight price amount color shape point angle speed label title group owner user message event
    queue stack table row column field record source target cache entry rank step batch layer model
    year month day hour minute period rate ratio factor scale margin border frame page
    chapter section header footer body prefix suffix pattern match query answer option choice flag
    status error warning reason signal port host address packet socket thread process worker task
    job plan stage phase round turn player board card deck hand move piece square city street
    number
""".split()
FUNCTIONS = """
    load save parse render update collect merge measure convert encode decode check refresh
    build create remove insert find compare sort apply reset connect
    send receive dispatch handle publish schedule execute prepare cleanup validate normalize compute
    estimate draw paint resize rotate shift expand shrink register lookup resolve fetch store
    transform
""".split()
CLASSES = """
    Account Window Parser Reader Writer Buffer Client Server Handler Manager Builder Factory Engine
    Widget Canvas Layer Vector Matrix Graph Node Tree Stack Queue Table Record Message Session
    Worker Player Scanner Printer Archive Library Catalog Journal Ticket
""".split()
WORDS = """
    hello world red green blue small large quick slow north south east west river mountain forest
    ocean island summer winter spring autumn morning evening bread butter coffee sugar apple orange
    lemon banana table chair window door garden house school market bridge tower castle village
    paper pencil letter number music dance story picture silver golden bright gentle quiet heavy
    light simple common special early later always never often rarely every other another second
    third north_side please ready begin finish open closed empty full round square soft hard warm
    cold fresh clean sharp smooth deep wide narrow
""".split()
READ = "input source config template settings dataset original fixture example".split()
WRITE = "output result report log summary export backup generated rendered".split()
MODULES = """
    collections itertools functools operator datetime statistics subprocess tempfile contextlib
    dataclasses textwrap calendar threading unittest logging
""".split()


def dealt(words: list[str], family: str) -> list[str]:
    """Every third word: those that belong to one family."""
    return words[FAMILIES.index(family) :: len(FAMILIES)]
