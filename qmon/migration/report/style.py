"""The style sheet of a report, for light and dark screens and for paper."""

STYLE = """
:root{color-scheme:light dark;--back:#fff;--card:#f6f7f9;--text:#1b2430;--dim:#5b6776;--line:#d9dee5;
--first:#2a6fdb;--second:#c2570c;--third:#0f8a73;--fourth:#8a4fc9;--good:#18794e;--bad:#c6262e;--wait:#a86a00}
@media(prefers-color-scheme:dark){:root{--back:#14181e;--card:#1d232b;--text:#e6eaf0;--dim:#9aa7b7;--line:#343d49;
--first:#6ea8ff;--second:#ff9d5c;--third:#4fd1b5;--fourth:#c39bf5;--good:#5fd39a;--bad:#ff7b7f;--wait:#f0b849}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:15px/1.45 system-ui,"DejaVu Sans",sans-serif}
main{max-width:62rem;margin:0 auto;padding:1.6rem 1.2rem}
h1{font-size:1.45rem;margin:0 .8rem 0 0;display:inline;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:1.7rem 0 .5rem}
h3{font-size:.92rem;font-weight:600;margin:.9rem 0 .1rem;display:flex;justify-content:space-between}
header p{margin:.5rem 0 0}
.status{display:inline-block;margin:0;padding:.12rem .6rem;border-radius:1rem;border:1px solid var(--dim);
color:var(--dim);font-size:.86rem;font-weight:600;vertical-align:.18rem}
.status.completed{color:var(--good);border-color:var(--good)}
.status.failed,.status.doubt{color:var(--bad);border-color:var(--bad)}
.figures{display:flex;flex-wrap:wrap;gap:.7rem;margin:1.1rem 0 0}
.figures div{background:var(--card);border-radius:.5rem;padding:.55rem .9rem;flex:1 1 8rem}
.figures b{display:block;font-size:1.22rem}
.figures span,.legend,footer{color:var(--dim);font-size:.84rem;font-weight:400}
.legend i{display:inline-block;width:.8rem;height:.2rem;margin:0 .35rem .22rem .8rem}
svg{display:block;width:100%;height:auto;overflow:visible}
.grid{stroke:var(--line);stroke-width:1}
.tick,.name{font:12px system-ui,"DejaVu Sans",sans-serif;fill:var(--dim)}
.end{text-anchor:end}.middle{text-anchor:middle}
.curve{fill:none;stroke-width:1.6;stroke-linejoin:round}
.area{opacity:.16;stroke:none}
.first{stroke:var(--first);fill:var(--first)}.second{stroke:var(--second);fill:var(--second)}
.third{stroke:var(--third);fill:var(--third)}.fourth{stroke:var(--fourth);fill:var(--fourth)}
polyline.curve{fill:none}polygon.area{stroke:none}
i.first{background:var(--first)}i.second{background:var(--second)}
.limit{stroke:var(--bad);stroke-dasharray:5 4;opacity:.75}
.mark{stroke:var(--dim);stroke-dasharray:2 3;opacity:.8}.mark.bad{stroke:var(--bad);stroke-dasharray:none}
.mark.wait{stroke:var(--wait);stroke-dasharray:none}
.over{fill:var(--text);opacity:0}.over:hover{opacity:.08}
.span{fill:var(--line);stroke:var(--back)}.span.active{fill:var(--first);fill-opacity:.28}
.span.switchover,.span.preswitchover{fill:var(--second);fill-opacity:.4}
.span.prepared{fill:var(--fourth);fill-opacity:.4}.span.gone{fill:var(--third);fill-opacity:.4}
.span.failed,.span.doubt{fill:var(--bad);fill-opacity:.4}.span.paused{fill:var(--wait);fill-opacity:.4}
.name{fill:var(--text)}
.checks{list-style:none;padding:0;margin:0}.checks li{padding:.22rem 0 .22rem 1.7rem;text-indent:-1.7rem;
overflow-wrap:anywhere}
.checks b{display:inline-block;width:1.7rem;text-indent:0}
.good b{color:var(--good)}.bad,.bad b{color:var(--bad)}.open b{color:var(--wait)}
table{border-collapse:collapse;width:100%;font-size:.9rem}.wide{overflow-x:auto}
td,th{text-align:left;padding:.28rem .9rem .28rem 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}
th,td:first-child{color:var(--dim);font-weight:400;white-space:nowrap}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:0 2rem}
footer{margin:2rem 0 0;border-top:1px solid var(--line);padding-top:.7rem}
@media print{main{max-width:none}section{break-inside:avoid}}
"""
